package scaffold

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// listeners are functions and methods, of net, net/http and the usual frameworks, that listen on an address which they are given.
var listeners = []string{"ListenAndServe", "ListenAndServeTLS", "Listen", "ListenTLS", "ListenPacket", "Run", "RunTLS", "Start", "StartTLS"}

// address is one that other machines reach: a port by itself, or behind an address that means all.
var address = regexp.MustCompile(`^(0\.0\.0\.0|\[::\])?:([1-9][0-9]{0,4})$`)

// portsOf are the ports that a package listens on by constants: an argument of a listener, the field Addr of a composite literal, or the
// default of a flag, since that is where the program listens if nobody says otherwise.
func portsOf(p Package) ([]string, error) {
	var files []*ast.File
	constants := map[string]string{}
	fset := token.NewFileSet()
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		addConstants(constants, f)
	}
	var ports []string
	add := func(e ast.Expr, suffix string) {
		if port := portOf(text(e, constants)); port != "" {
			ports = append(ports, port+suffix)
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name, suffix := called(n), ""
				switch {
				case slices.Contains(listeners, name):
					if len(n.Args) > 0 && len(text(n.Args[0], constants)) > 2 && text(n.Args[0], constants)[:3] == "udp" {
						suffix = "/udp"
					}
					for _, a := range n.Args {
						add(a, suffix)
					}
				case (name == "String" || name == "StringP") && len(n.Args) >= 3, (name == "StringVar" || name == "StringVarP") && len(n.Args) >= 4:
					for _, a := range n.Args[1 : len(n.Args)-1] {
						add(a, "")
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Addr" {
					add(n.Value, "")
				}
			}
			return true
		})
	}
	return ports, nil
}

// addConstants notes the constants of a file that are strings by themselves.
func addConstants(all map[string]string, f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, name := range v.Names {
				if i < len(v.Values) {
					if t := text(v.Values[i], nil); t != "" {
						all[name.Name] = t
					}
				}
			}
		}
	}
}

// text is the string that an expression is; "" where it is no constant.
func text(e ast.Expr, constants map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value) // the parser has read it
			return s
		}
	case *ast.Ident:
		return constants[e.Name]
	case *ast.ParenExpr:
		return text(e.X, constants)
	}
	return ""
}

func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

func portOf(addr string) string {
	m := address.FindStringSubmatch(addr)
	if m == nil {
		return ""
	}
	if n, err := strconv.Atoi(m[2]); err != nil || n > 65535 {
		return ""
	}
	return m[2]
}

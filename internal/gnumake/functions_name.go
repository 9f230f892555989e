package gnumake

import (
	"path"
	"strings"
)

// nameFunctions are those about names of files.
func nameFunctions() []function {
	each := func(name string, one func(w string) string) function {
		join := joinWords
		if name == "notdir" { // a name that ends in a slash leaves its space
			join = func(list []string) string { return strings.Join(list, " ") }
		}
		return function{name: name, max: 1, pure: true, run: func(_ *maker, a []string) string {
			list := words(a[0])
			for i := range list {
				list[i] = one(list[i])
			}
			return join(list)
		}}
	}
	return []function{
		each("dir", func(w string) string {
			if at := strings.LastIndexByte(w, '/'); at >= 0 {
				return w[:at+1]
			}
			return "./"
		}),
		each("notdir", func(w string) string { return w[strings.LastIndexByte(w, '/')+1:] }),
		each("suffix", func(w string) string {
			if at := suffixAt(w); at >= 0 {
				return w[at:]
			}
			return ""
		}),
		each("basename", func(w string) string {
			if at := suffixAt(w); at >= 0 {
				return w[:at]
			}
			return w
		}),
		{name: "addsuffix", min: 2, max: 2, pure: true, run: func(_ *maker, a []string) string {
			list := words(a[1])
			for i := range list {
				list[i] += a[0]
			}
			return strings.Join(list, " ")
		}},
		{name: "addprefix", min: 2, max: 2, pure: true, run: func(_ *maker, a []string) string {
			list := words(a[1])
			for i := range list {
				list[i] = a[0] + list[i]
			}
			return strings.Join(list, " ")
		}},
		{name: "wildcard", max: 1, pure: true, run: func(k *maker, a []string) string {
			var out []string
			for _, w := range words(a[0]) {
				out = append(out, k.glob(w)...)
			}
			return strings.Join(out, " ")
		}},
		{name: "realpath", max: 1, pure: true, run: func(k *maker, a []string) string {
			var out []string
			for _, w := range words(a[0]) {
				if p, err := k.Files.Real(k.abs(w)); err == nil {
					out = append(out, p)
				}
			}
			return strings.Join(out, " ")
		}},
		{name: "abspath", max: 1, pure: true, run: func(k *maker, a []string) string {
			var out []string
			for _, w := range words(a[0]) {
				if !path.IsAbs(w) {
					w = k.cwd + "/" + w
				}
				out = append(out, path.Clean(w))
			}
			return strings.Join(out, " ")
		}},
		{name: "file", min: 1, max: 2, run: fileFunction},
	}
}

// suffixAt is where a name's suffix begins; -1 without one.
func suffixAt(w string) int {
	at := strings.LastIndexByte(w, '.')
	if at < strings.LastIndexByte(w, '/') {
		return -1
	}
	return at
}

// fileFunction reads and writes files: $(file < NAME), $(file > NAME,TEXT), $(file >> NAME,TEXT).
func fileFunction(k *maker, a []string) string {
	op := trimBlanks(a[0])
	more := strings.HasPrefix(op, ">>")
	write := strings.HasPrefix(op, ">")
	name := strings.Trim(strings.TrimLeft(op, "<>"), spaces)
	switch {
	case !write && !strings.HasPrefix(op, "<"):
		k.fatal(k.where(), "file: invalid file operation: %s", op)
	case name == "":
		k.fatal(k.where(), "file: missing filename")
	case k.Judge != nil:
		return Unknown
	case !write:
		if len(a) > 1 {
			k.fatal(k.where(), "file: too many arguments")
		}
		data, err := k.Files.ReadFile(k.abs(name))
		if err != nil {
			if k.Files == nil || !k.exists(name) {
				return ""
			}
			k.fatal(k.where(), "open: %s: %s", name, reason(err))
		}
		return strings.TrimSuffix(string(data), "\n")
	}
	text := ""
	if len(a) > 1 {
		text = strings.TrimSuffix(a[1], "\n") + "\n"
	}
	if err := k.Files.Write(k.abs(name), []byte(text), more); err != nil {
		k.fatal(k.where(), "open: %s: %s", name, reason(err))
	}
	return ""
}

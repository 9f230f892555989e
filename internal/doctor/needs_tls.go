package doctor

import (
	"strings"

	"github.com/skiff-build/skiff/internal/gobin"
)

// caRoots finds whether the program verifies certificates against the system's roots.
//
// Every net/http server links the code that loads them, and a TLS client: since Go 1.24 its handler for unencrypted HTTP/2 makes
// a client's connection over a false one. The proof of a real client is another place that makes the function value
// (*Conn).clientHandshake, which is what tls.Client, inlined, leaves behind.
func caRoots(p *program) *Need {
	if !p.has("crypto/x509.loadSystemRoots") {
		return nil
	}
	var need *Need
	add := func(level Level, evidence string) { need = raise(need, NeedCA, level, evidence) }
	if !p.CallGraph {
		for _, name := range []string{"net/http.(*Transport).dialConn", "crypto/tls.dial", "crypto/tls.QUICClient", "net/smtp.(*Client).StartTLS"} {
			if p.has(name) {
				add(Likely, name+" is linked: a TLS client")
			}
		}
	}
	unused := ""
	for _, c := range p.tlsClients() {
		if c.level == None {
			unused = c.evidence
			continue
		}
		add(c.level, c.evidence)
	}
	poolCalls := p.refs("crypto/x509.SystemCertPool", p.outside)
	if len(poolCalls) > 0 {
		add(Likely, p.called("crypto/x509.SystemCertPool", poolCalls))
	} else if p.stored("crypto/x509.SystemCertPool") {
		add(Possible, "crypto/x509.SystemCertPool is stored as a value")
	}
	ownPools := p.ownPools()
	if calls := p.refs("crypto/x509.(*Certificate).Verify", p.outside); len(calls) > 0 {
		switch evidence := p.called("crypto/x509.(*Certificate).Verify", calls); {
		case ownPools == "":
			add(Likely, evidence+", and no roots of the program's own are made anywhere")
		default:
			add(Possible, evidence+"; the roots may be the program's own ("+ownPools+")")
		}
	}
	if server := p.tlsServer(); server != "" {
		add(Possible, server+"; should it verify clients' certificates without ClientCAs, it takes the system's roots")
	}
	if need == nil && unused != "" {
		add(None, unused)
	}
	if calls := p.refs("crypto/x509.SetFallbackRoots", p.outside); len(calls) > 0 && need != nil {
		need.Level = None
		need.Evidence = append(need.Evidence, p.called("crypto/x509.SetFallbackRoots", calls)+": roots are embedded, the system's are optional")
	}
	return need
}

type tlsClient struct {
	level    Level
	evidence string
}

// tlsClients are the places that begin a client's handshake.
func (p *program) tlsClients() []tlsClient {
	const handshake = "crypto/tls.(*Conn).clientHandshake-fm"
	// The hook of servers; in a function of its own when nothing is inlined.
	notHook := func(fn gobin.Func) bool {
		switch p.Name(fn) {
		case "net/http.(*conn).maybeServeUnencryptedHTTP2", "net/http.unencryptedTLSConn", "crypto/tls.Client":
			return false
		}
		return true
	}
	var all []tlsClient
	seen := map[gobin.Func]bool{}
	for _, r := range append(p.refs(handshake, notHook), p.refs("crypto/tls.Client", notHook)...) {
		if seen[r.From] {
			continue
		}
		seen[r.From] = true
		name := p.Name(r.From)
		switch {
		case r.Kind == gobin.Taken && strings.HasSuffix(p.Name(r.To), "tls.Client"):
			all = append(all, tlsClient{Possible, "crypto/tls.Client is taken as a value by " + name})
		case !p.reached(r.From):
			all = append(all, tlsClient{None, name + " begins TLS as a client, but only a lookup of methods by name keeps it"})
		default:
			evidence := name + " begins TLS as a client"
			if way := p.way(r.From); way != "" && way != name {
				evidence += " (" + way + ")"
			}
			all = append(all, tlsClient{Linked, evidence})
		}
	}
	if p.stored("crypto/tls.Client") {
		all = append(all, tlsClient{Possible, "crypto/tls.Client is stored as a value"})
	}
	return all
}

// ownPools says who makes roots of its own; "" for nobody. crypto/tls fills pools with what the other side sends.
func (p *program) ownPools() string {
	others := func(fn gobin.Func) bool { return p.notIn("crypto/x509")(fn) && p.notIn("crypto/tls")(fn) }
	for _, name := range []string{"crypto/x509.(*CertPool).AddCert", "crypto/x509.(*CertPool).AppendCertsFromPEM", "crypto/x509.(*CertPool).addCertFunc"} {
		if calls := p.refs(name, others); len(calls) > 0 {
			return p.called(name, calls)
		}
		if p.stored(name) {
			return name + " is stored as a value"
		}
	}
	return ""
}

// tlsServer says who serves TLS; "" for nobody.
func (p *program) tlsServer() string {
	const handshake = "crypto/tls.(*Conn).serverHandshake-fm"
	anybody := func(gobin.Func) bool { return true }
	for _, r := range append(p.refs(handshake, anybody), p.refs("crypto/tls.Server", anybody)...) {
		if p.reached(r.From) && p.Name(r.From) != "crypto/tls.Server" {
			return p.Name(r.From) + " serves TLS"
		}
	}
	return ""
}

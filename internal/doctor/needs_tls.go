package doctor

import (
	"net/netip"
	"net/url"
	"slices"
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
	trusts := p.trustsOthers()
	for _, c := range p.tlsClients() {
		switch {
		case c.level == None:
			unused = c.evidence
		case trusts != "":
			add(Possible, c.evidence)
		default:
			add(c.level, c.evidence)
		}
	}
	if need != nil && trusts != "" {
		add(Possible, trusts)
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

// Where fields lie that decide on trust, in bytes: crypto/tls, Config and net/http, Client and Transport. They stand before all fields that newer
// releases of Go added; the test of this package compares them with the Go at hand, the probes with others.
const (
	configRootCAs  = 96
	configInsecure = 160
	clientRoundTr  = 0
	transportDial  = 200 // DialTLSContext
	transportTLS   = 216 // TLSClientConfig
	dialerConfig   = 8   // of tls.Dialer: Config
)

// trustsOthers says why no client of the program trusts the system's roots; "" where one may, or it cannot be told. It looks at all that
// code outside of the standard library makes:
//
//   - each tls.Config has RootCAs set to a pool that the program made ([gobin.File.From] says how it came there), or InsecureSkipVerify to
//     true, on every way to its return. crypto/tls verifies with RootCAs where they are not nil (Conn.verifyServerCertificate), x509 takes the system's where
//     they are (Certificate.Verify);
//   - each http.Transport has such a configuration, each http.Client such a transport (Client.transport takes the default one where
//     it has none), and what is asked through a client that is there from the start is not known to have one;
//   - nobody calls what makes a configuration of its own: http.Get and its like, smtp.SendMail, tls.Dial without one, a reverse proxy, the
//     system's pool. The default client and transport may be given a configuration by main or init.
//
// What it does not see is a value in a variable or in another structure that code of others fills; so the need stays possible.
func (p *program) trustsOthers() string {
	if !p.CallGraph {
		return ""
	}
	defaults := p.defaultClients()
	if p.defaultTrust(defaults) {
		return ""
	}
	why := p.plainHTTP()
	configs := p.Objects("tls.Config", p.liveOutside)
	if len(configs) == 0 && why != "" {
		return why
	}
	for _, c := range configs {
		switch {
		case p.pinned(c) == "":
			return ""
		case !strings.Contains(why, p.pinned(c)):
			why = p.Name(c.In) + " makes its configuration with " + p.pinned(c)
		}
	}
	if len(p.Objects("http2.Transport", p.liveOutside)) > 0 {
		return ""
	}
	for _, t := range p.Objects("http.Transport", p.liveOutside) {
		if !p.hasConfig(t) {
			return ""
		}
	}
	for _, c := range p.Objects("http.Client", p.liveOutside) {
		if !p.hasTransport(c) && !(defaults.transport && !c.Field(clientRoundTr).Set) {
			return ""
		}
	}
	for _, name := range clientCalls {
		for _, r := range p.refs(name, p.liveOutside) {
			c := p.Receiver(r)
			switch {
			case r.Kind != gobin.Call || c.Const:
				return ""
			case c.Static && p.staticClient(c.Var):
				why = "a variable's configuration has InsecureSkipVerify"
			case c.Static && slices.Contains(defaults.clients, c.Var):
			case c.Static && !defaults.pinned:
				return ""
			case c.Object == "http.Client" && !p.hasTransport(c.Of) && !defaults.transport:
				return ""
			case !c.Known && !p.Inside(r):
				return ""
			}
		}
	}
	return why
}

// hasConfig says that a transport has a configuration that the program makes, or makes its connections by a function of the program's, for
// which the configurations in it count. A copy of the default transport has neither until it is given one.
func (p *program) hasConfig(t gobin.Object) bool {
	if t.Field(transportDial).Set {
		return true
	}
	return p.From(t.Field(transportTLS), gobin.Origin{Type: "tls.Config"})
}

// staticClient says that a variable starts as a client whose transport's configuration skips verification, all in static data.
func (p *program) staticClient(variable uint64) bool {
	client := p.Word(variable)
	if client == 0 || p.TypeOf(p.Word(client+clientRoundTr)) != "*http.Transport" {
		return false
	}
	config := p.Word(p.Word(client+clientRoundTr+8) + transportTLS)
	return config != 0 && p.Byte(config+configInsecure) == 1
}

// defaults are what net/http uses where nothing else is said.
type defaults struct {
	pinned    bool     // http.Get and its like, and http.DefaultClient, trust others than the system's roots
	transport bool     // so does a client without a transport
	clients   []uint64 // variables that hold such a client
}

// defaultClients says whether the program gives http.DefaultTransport or http.DefaultClient a configuration, in its main or an init function,
// each time that it comes to the end of that. Where a choice decides, it is none.
func (p *program) defaultClients() defaults {
	var d defaults
	client := p.defaultClient()
	for i := range p.NumFuncs() {
		fn := gobin.Func(i)
		if name := p.Name(fn); name != "main.main" && name != "main.init" && !strings.HasPrefix(name, "main.init.") {
			continue
		}
		for _, g := range p.Globals(fn) {
			switch {
			case g.Field && g.Offset == transportTLS && p.TypeOf(p.Word(g.Var-8)) == "*http.Transport":
				if p.From(g.Held, gobin.Origin{Type: "tls.Config"}) {
					d.pinned, d.transport = true, true
				}
			case !g.Field && g.Held.Object == "http.Client" && p.hasTransport(g.Held.Of):
				d.clients = append(d.clients, g.Var)
				d.pinned = d.pinned || g.Var == client
			}
		}
	}
	return d
}

// defaultClient is the address of the variable http.DefaultClient, 0 where it cannot be told: http.Get asks it.
func (p *program) defaultClient() uint64 {
	for _, name := range getters {
		fn, ok := p.Lookup(name)
		if !ok {
			continue
		}
		for _, called := range clientCalls {
			for _, r := range p.refs(called, func(from gobin.Func) bool { return from == fn }) {
				if c := p.Receiver(r); c.Static {
					return c.Var
				}
			}
		}
	}
	return 0
}

// liveOutside leaves out golang.org/x/net/http2, too, of which net/http has a copy: its configurations begin as those of the transport
// that it is for (Transport.newTLSConfig).
func (p *program) liveOutside(fn gobin.Func) bool {
	return p.outside(fn) && gobin.Package(p.Name(fn)) != "golang.org/x/net/http2" && p.live(fn)
}

// clientCalls send requests by an http.Client, their receiver.
var clientCalls = []string{
	"net/http.(*Client).Do", "net/http.(*Client).do", "net/http.(*Client).Get", "net/http.(*Client).Head", "net/http.(*Client).Post", "net/http.(*Client).PostForm",
}

// getters ask the default client.
var getters = []string{"net/http.Get", "net/http.Head", "net/http.Post", "net/http.PostForm"}

// pinned says by what a configuration trusts others than the system's roots, "" where it is not sure to.
func (p *program) pinned(c gobin.Object) string {
	if f := c.Field(configInsecure); f.Known && f.Const && f.N&0xff == 1 {
		return "InsecureSkipVerify"
	}
	if f := c.Field(configRootCAs); p.From(f, ownPool) || f.Set && !f.Known && c.After("x509.CertPool") {
		return "roots of its own"
	}
	return ""
}

// ownPool is where pools come from that hold what the program puts into them.
var ownPool = gobin.Origin{Type: "x509.CertPool", Results: []string{"crypto/x509.NewCertPool"}}

// hasTransport says that a client has an http.Transport of its own.
func (p *program) hasTransport(c gobin.Object) bool {
	f := c.Field(clientRoundTr)
	return f.Const && f.N != 0 && p.TypeOf(f.N) == "*http.Transport"
}

// defaultTrust says that something outside of the standard library calls what trusts the system's roots by itself.
func (p *program) defaultTrust(d defaults) bool {
	for _, name := range []string{
		"net/http.Get", "net/http.Head", "net/http.Post", "net/http.PostForm", "net/smtp.SendMail", "crypto/x509.SystemCertPool",
		"net/http/httputil.NewSingleHostReverseProxy", "net/http/httputil.(*ReverseProxy).ServeHTTP",
	} {
		if d.transport && strings.HasPrefix(name, "net/http") || d.pinned && slices.Contains(getters, name) {
			continue
		}
		if calls := p.refs(name, p.liveOutside); len(calls) > 0 && !p.plainURLs(name, calls) || p.stored(name) {
			return true
		}
	}
	for name, word := range map[string]int{"crypto/tls.Dial": 4, "crypto/tls.DialWithDialer": 5, "crypto/tls.Client": 2} {
		for _, r := range p.refs(name, p.liveOutside) {
			if p.Nil(r, word) {
				return true
			}
		}
	}
	for _, name := range []string{"crypto/tls.(*Dialer).DialContext", "crypto/tls.(*Dialer).Dial"} {
		for _, r := range p.refs(name, p.liveOutside) {
			if d := p.Receiver(r); d.Object != "tls.Dialer" || !p.From(d.Of.Field(dialerConfig), gobin.Origin{Type: "tls.Config"}) {
				return true
			}
		}
	}
	return false
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

// urlWords are where URLs are given: the word of the argument.
var urlWords = map[string]int{
	"net/http.Get": 0, "net/http.Head": 0, "net/http.Post": 0, "net/http.PostForm": 0, "net/http.NewRequest": 2, "net/http.NewRequestWithContext": 4,
	"net/http.(*Client).Get": 1, "net/http.(*Client).Head": 1, "net/http.(*Client).Post": 1, "net/http.(*Client).PostForm": 1,
}

// plainURLs says that calls are given constants only that name this machine without TLS. A server there that sends on to another
// address is possible.
func (p *program) plainURLs(name string, calls []gobin.Ref) bool {
	word, ok := urlWords[name]
	if !ok {
		return false
	}
	for _, r := range calls {
		if begin := p.Begin(r, word); begin != "" && plainBegin(begin) {
			continue
		}
		args := p.Arg(r, word)
		if !args.Complete || len(args.Values) == 0 || slices.ContainsFunc(args.Values, func(u string) bool { return !plainURL(u) }) {
			return false
		}
	}
	return true
}

func plainURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" {
		return false
	}
	return hereOrUncertified(u.Hostname())
}

// plainBegin is [plainURL] for the constant that an address begins with: the host has to be whole.
func plainBegin(text string) bool {
	end := strings.LastIndexAny(text, ":/")
	if end <= len("http://")-1 {
		return false
	}
	u, err := url.Parse(text[:end])
	return err == nil && u.Scheme == "http" && hereOrUncertified(u.Hostname())
}

// hereOrUncertified says that a host is this machine, or has a name without a dot: a service beside this one, or what stands in the address for
// a socket. No authority that systems trust certifies such names (CA/Browser Forum, Baseline Requirements, 4.2.2, internal names), so even
// where such a server sends on to TLS their bundle is of no use.
func hereOrUncertified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || err != nil && host != "" && !strings.ContainsAny(host, ".:")
}

// plainHTTP says that all that the program asks by HTTP is this machine or a service beside it, without TLS: a health check by itself, say.
func (p *program) plainHTTP() string {
	asked := ""
	for name := range urlWords {
		calls := p.refs(name, p.liveOutside)
		if len(calls) == 0 && !p.stored(name) {
			continue
		}
		if p.stored(name) || !p.plainURLs(name, calls) {
			return ""
		}
		asked = "all that it asks by HTTP are addresses without TLS, of this machine or of names without a dot"
	}
	// Whoever begins TLS without http would be asked for other addresses.
	for _, name := range []string{"crypto/tls.Dial", "crypto/tls.DialWithDialer", "crypto/tls.(*Dialer).DialContext", "net/smtp.(*Client).StartTLS",
		"crypto/tls.Client", "crypto/tls.(*Conn).clientHandshake-fm", "crypto/tls.QUICClient", "net/http.(*Transport).RoundTrip"} {
		if len(p.refs(name, p.liveOutside)) > 0 {
			return ""
		}
	}
	return asked
}

package doctor

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// expression is a regular expression that is compiled when it is needed first: forty of them take a millisecond, which every start
// of the program would pay.
type expression func() *regexp.Regexp

func compiled(text string) expression {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// Secrets are told by name and content together: a name alone raises false alarms (an empty .netrc, .env.example), and so does
// content alone (the keys that libraries are tested with). What is reported is the kind, never a part of the secret.

// searched says that a file may hold a secret: one with a name that secrets have, or a text.
func searched(name string, head []byte) bool {
	if foreign(name) {
		return false
	}
	return slices.ContainsFunc(named, func(n namedSecret) bool { return n.matches(name) }) || bytes.IndexByte(head, 0) < 0
}

// foreign are places whose keys are known to the world: tests, samples, documentation and what packages bring along.
func foreign(name string) bool {
	if strings.HasSuffix(name, "_test.go") {
		return true
	}
	for _, part := range []string{
		"/testdata/", "/pkg/mod/", "/usr/local/go/", "/usr/share/", "/usr/lib/", "/usr/include/", "/node_modules/", "/site-packages/",
		"/dist-packages/", "/vendor/",
	} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// namedSecret is a file that programs keep secrets in. It counts where its content has what: an empty what is any content.
type namedSecret struct {
	suffix string // of the path, from a slash on
	what   string // for the user
	has    expression
}

func (n namedSecret) matches(name string) bool { return strings.HasSuffix(name, n.suffix) }

var named = []namedSecret{
	{"/.netrc", "a netrc file with a password", compiled(`(?m)\bpassword\s+\S`)},
	{"/_netrc", "a netrc file with a password", compiled(`(?m)\bpassword\s+\S`)},
	{"/.git-credentials", "credentials of git", compiled(`://[^\s/:@]+:[^\s/@]+@`)},
	{"/.docker/config.json", "credentials of Docker registries", compiled(`"(auth|identitytoken|registrytoken)"\s*:\s*"[^"]`)},
	{"/.dockercfg", "credentials of Docker registries", compiled(`"auth"\s*:\s*"[^"]`)},
	{"/containers/auth.json", "credentials of registries", compiled(`"auth"\s*:\s*"[^"]`)},
	{"/.aws/credentials", "credentials of AWS", compiled(`(?i)aws_secret_access_key\s*=\s*\S`)},
	{"/application_default_credentials.json", "credentials of Google Cloud", compiled(`"(refresh_token|private_key)"\s*:\s*"[^"]`)},
	{"/.config/gcloud/credentials.db", "credentials of Google Cloud", nil},
	{"/.config/gcloud/access_tokens.db", "credentials of Google Cloud", nil},
	{"/.azure/accessTokens.json", "credentials of Azure", compiled(`"(accessToken|refreshToken)"\s*:\s*"[^"]`)},
	{"/.azure/msal_token_cache.json", "credentials of Azure", compiled(`"secret"\s*:\s*"[^"]`)},
	{"/.kube/config", "credentials of Kubernetes", compiled(`(?m)^\s*(token|client-key-data|password):\s*\S`)},
	{"/.npmrc", "a token of npm", compiled(`(?m)_(authToken|auth|password)\s*=\s*"?[^\s"$]`)},
	{"/.pypirc", "a password of PyPI", compiled(`(?m)^\s*password\s*[:=]\s*\S`)},
	{"/.pgpass", "passwords of PostgreSQL", compiled(`(?m)^[^#\s][^:]*(:[^:]*){3}:\S`)},
	{"/.vault-token", "a token of Vault", nil},
}

// environmentFile are .env files, which are made to hold secrets; samples of them are not.
var (
	environmentFile = compiled(`^(\.env(\.[A-Za-z0-9_-]+)?|[A-Za-z0-9_-]+\.env)$`)
	sampleFile      = compiled(`(?i)(example|sample|template|dist|defaults?)`)
	// secretName are names of variables that hold secrets; those that only tell where one is end otherwise.
	secretName = compiled(`(?i)(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|SECRET_?KEY|AUTH_?KEY)$`)
	// keyFile are names of private keys: there the first line is enough.
	keyFile     = compiled(`^(id_(rsa|dsa|ecdsa|ed25519).*|.*\.(pem|key))$`)
	keyHeader   = compiled(`-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----`)
	urlPassword = compiled(`://[^\s/:@]+:[^\s/@$]+@`)
	assignment  = compiled(`(?m)^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(.*)$`)
	// placeholder are values that stand for one.
	placeholder = compiled(`(?i)^(|["']{2}|\$.*|<.*>|x+|\*+|\.+|(your|my|the|some|insert|put)[-_ ].*|change[-_ ]?me.*|replace[-_ ]?me.*|todo|none|null|true|false|example.*|dummy.*)$`)
)

// signatures are texts that are secrets wherever they stand. An expression is slow: it is asked only of a text that has one of marks,
// compared without regard to case. All marks but those with a space hold an underscore or a hyphen, by which they are found.
var signatures = []struct {
	what  string
	marks []string
	text  expression
}{
	{"a private key", []string{"PRIVATE KEY"}, compiled(`-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED )?PRIVATE KEY-----\s*(?:\\n)?\s*(?:[A-Z][A-Za-z-]+: [^\n]+\n\s*)*[A-Za-z0-9+/=]{40}`)},
	{"a private key of PGP", []string{"PGP PRIVATE KEY"}, compiled(`-----BEGIN PGP PRIVATE KEY BLOCK-----`)},
	{"a key of AWS", []string{"aws_secret_access_key"}, compiled(`(?i)aws_secret_access_key["']?\s*[=:]\s*["']?[A-Za-z0-9/+]{40}\b`)},
	{"a token of GitHub", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, compiled(`\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b`)},
	{"a token of GitLab", []string{"glpat-"}, compiled(`\bglpat-[A-Za-z0-9_-]{20}\b`)},
	{"a token of Slack", []string{"xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-"}, compiled(`\bxox[baprs]-[0-9]{9,14}-[A-Za-z0-9-]{20,}`)},
	{"an app token of Slack", []string{"xapp-"}, compiled(`\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-f0-9]{32,}`)},
	{"a key of Stripe", []string{"sk_live_", "rk_live_"}, compiled(`\b[sr]k_live_[0-9A-Za-z]{24,}\b`)},
	{"a token of npm", []string{"npm_"}, compiled(`\bnpm_[A-Za-z0-9]{36}\b`)},
}

// marked says which of signatures a text has a mark of. It passes over the text once for each byte that marks are found by.
func marked(text []byte) (found uint64) {
	for _, at := range [...]byte{'_', '-'} {
		for from := 0; ; {
			i := bytes.IndexByte(text[from:], at)
			if i < 0 {
				break
			}
			for _, m := range markAt(at) {
				start := from + i - m.at
				if start >= 0 && start+len(m.text) <= len(text) && bytes.EqualFold(text[start:start+len(m.text)], m.text) {
					found |= 1 << m.signature
				}
			}
			from += i + 1
		}
	}
	for _, m := range markAt(' ') {
		if found>>m.signature&1 == 0 && bytes.Contains(text, m.text) {
			found |= 1 << m.signature
		}
	}
	return found
}

// mark is one of a signature, and the first place in it of the byte that it is found by.
type mark struct {
	text          []byte
	at, signature int
}

// markAt are the marks that are found by a byte.
func markAt(b byte) []mark { return marksBy()[b] }

var marksBy = sync.OnceValue(func() map[byte][]mark {
	by := map[byte][]mark{}
	for i, s := range signatures {
		for _, text := range s.marks {
			at := strings.IndexAny(text, "_- ")
			by[text[at]] = append(by[text[at]], mark{[]byte(text), at, i})
		}
	}
	return by
})

// secretIn says what a file's content gives away, "" where it is nothing.
func secretIn(name string, text []byte) string {
	if foreign(name) || len(bytes.TrimSpace(text)) == 0 {
		return ""
	}
	for _, n := range named {
		if n.matches(name) && (n.has == nil || n.has().Match(text)) {
			return n.what
		}
	}
	if base := path.Base(name); environmentFile().MatchString(base) && !sampleFile().MatchString(base) && assignsSecret(text) {
		return "an environment file with secrets"
	}
	if keyFile().MatchString(path.Base(name)) && keyHeader().Match(text) {
		return "a private key"
	}
	return signature(text)
}

func assignsSecret(text []byte) bool {
	for _, m := range assignment().FindAllSubmatch(text, -1) {
		value := strings.TrimSpace(string(m[2]))
		if isSecret(string(m[1]), value) || urlPassword().MatchString(value) {
			return true
		}
	}
	return false
}

// isSecret says that a variable of that name holds a secret.
func isSecret(name, value string) bool {
	return secretName().MatchString(name) && !placeholder().MatchString(strings.Trim(value, `"'`))
}

func signature(text []byte) string {
	found := marked(text)
	for i, s := range signatures {
		if found>>i&1 == 0 {
			continue
		}
		for _, m := range s.text().FindAll(text, -1) {
			if !bytes.Contains(m, []byte("EXAMPLE")) { // as AWS's documentation marks its samples
				return s.what
			}
		}
	}
	return ""
}

// assigned are the assignments in an instruction, spaced the older form of ENV: ENV NAME VALUE.
var (
	assigned = compiled(`([A-Za-z_][A-Za-z0-9_]*)=("[^"]*"|'[^']*'|[^\s"']+)`)
	spaced   = compiled(`^(?i:ENV)\s+([A-Za-z_][A-Za-z0-9_]*)\s+(\S.*)$`)
)

// redact takes the values of secrets out of an instruction, so that they are not printed.
func redact(text string) string {
	if m := spaced().FindStringSubmatch(text); m != nil && isSecret(m[1], m[2]) {
		return "ENV " + m[1] + " …"
	}
	text = assigned().ReplaceAllStringFunc(text, func(a string) string {
		if name, value, _ := strings.Cut(a, "="); isSecret(name, value) {
			return name + "=…"
		}
		return a
	})
	for _, s := range signatures {
		text = s.text().ReplaceAllString(text, "…")
	}
	return text
}

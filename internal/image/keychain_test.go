package image

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

func TestCredentials(t *testing.T) {
	f := newRegistry(t)
	img := randomImage(t)
	f.push(t, "x:1", img)
	f.spoil = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(401)
	}
	f.takes = func(r *http.Request) bool {
		user, pass, _ := r.BasicAuth()
		return user != "me" || pass != "secret"
	}
	auth := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, f.host)
	for name, set := range map[string]func(t *testing.T, home string){
		"docker": func(t *testing.T, home string) { write(t, filepath.Join(home, "docker", "config.json"), auth) },
		"podman, beside docker's": func(t *testing.T, home string) {
			write(t, filepath.Join(home, "docker", "config.json"), `{"auths":{}}`)
			write(t, filepath.Join(home, "run", "containers", "auth.json"), auth)
		},
		"podman in the configuration": func(t *testing.T, home string) {
			write(t, filepath.Join(home, "config", "containers", "auth.json"), auth)
		},
		"REGISTRY_AUTH_FILE": func(t *testing.T, home string) {
			write(t, filepath.Join(home, "auth"), auth)
			t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "auth"))
		},
		"a helper": func(t *testing.T, home string) {
			write(t, filepath.Join(home, "bin", "docker-credential-toy"), "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n")
			if err := os.Chmod(filepath.Join(home, "bin", "docker-credential-toy"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", filepath.Join(home, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
			write(t, filepath.Join(home, "docker", "config.json"), fmt.Sprintf(`{"credHelpers":{%q:"toy"}}`, f.host))
		},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			for env, dir := range map[string]string{"HOME": "", "DOCKER_CONFIG": "docker", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config"} {
				t.Setenv(env, filepath.Join(home, dir))
			}
			t.Setenv("REGISTRY_AUTH_FILE", "")
			pull := func() error {
				r := client(t, newLibrary(t), RegistryOptions{Keychain: defaultKeychain{}})
				_, err := r.Pull(t.Context(), f.host+"/x:1", nil, false)
				return err
			}
			if err := pull(); err == nil || !strings.Contains(err.Error(), "access denied") {
				t.Errorf("without credentials: %v", err)
			}
			set(t, home)
			if err := pull(); err != nil {
				t.Errorf("with credentials: %v", err)
			}
		})
	}
}

func TestCheckLogin(t *testing.T) {
	f := newRegistry(t)
	f.spoil = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(401)
	}
	f.takes = func(r *http.Request) bool {
		user, pass, _ := r.BasicAuth()
		return user != "me" || pass != "secret"
	}
	r := client(t, newLibrary(t), RegistryOptions{})
	if err := r.CheckLogin(t.Context(), f.host, "me", "secret"); err != nil {
		t.Error(err)
	}
	if err := r.CheckLogin(t.Context(), f.host, "me", "wrong"); err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("%v", err)
	}
	r = client(t, newLibrary(t), RegistryOptions{Transport: refuse(func(req *http.Request) {
		if req.URL.Scheme == "http" {
			t.Errorf("a password may go out to %s", req.URL)
		}
	})})
	if err := r.CheckLogin(t.Context(), "10.0.0.1:5000", "me", "secret"); err == nil {
		t.Error("no error without a network")
	}
}

func TestCredentialKeys(t *testing.T) {
	auth := func(user string) string {
		return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":p")) + `"}`
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	for _, c := range []struct{ auths, repo, user string }{
		{`"https://index.docker.io/v1/":` + auth("a"), "docker.io/library/x", "a"},
		{`"docker.io":` + auth("a"), "docker.io/library/x", "a"},
		{`"docker.io/me":` + auth("a") + `,"docker.io":` + auth("b"), "docker.io/me/x", "a"},
		{`"docker.io/me":` + auth("a") + `,"docker.io":` + auth("b"), "docker.io/you/x", "b"},
		{`"quay.io/a/b":` + auth("ab") + `,"quay.io/a":` + auth("a"), "quay.io/a/b/c", "ab"},
		{`"quay.io/a/b":` + auth("ab") + `,"quay.io/a":` + auth("a"), "quay.io/a/bc", "a"},
		{`"quay.io/a":` + auth("a"), "quay.io/b", ""},
		{`"https://quay.io":` + auth("a"), "quay.io/b", "a"},
		{`"other.io":` + auth("a"), "quay.io/b", ""},
	} {
		write(t, filepath.Join(home, "config.json"), `{"auths":{`+c.auths+`}}`)
		repo, err := name.NewRepository(c.repo)
		if err != nil {
			t.Fatal(err)
		}
		a, err := defaultKeychain{}.Resolve(repo)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Authorization()
		if err != nil || got.Username != c.user {
			t.Errorf("%s with %s: %q %v, want %q", c.repo, c.auths, got.Username, err, c.user)
		}
	}
	write(t, filepath.Join(home, "config.json"), `{`)
	if _, err := (defaultKeychain{}).Resolve(name.MustParseReference("x").Context()); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("a broken file: %v", err)
	}
}

// TestHelperThatGivesNone: a program for credentials that is not installed, or fails, keeps nobody from what is public, and is what
// an error is about where the registry wants credentials.
func TestHelperThatGivesNone(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"store", "{\n  \"credsStore\": \"nosuchhelper\"\n}", "config.json:2: the program docker-credential-nosuchhelper is not installed"},
		{"helper of the registry", "{\n \"auths\": {\"HOST\": {}},\n \"credHelpers\": {\n  \"other\": \"x\",\n  \"HOST\": \"broken\"}\n}", "config.json:5: docker-credential-broken: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newRegistry(t)
			f.push(t, "x:1", randomImage(t))
			home := t.TempDir()
			for env, dir := range map[string]string{"HOME": "", "DOCKER_CONFIG": "docker", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config"} {
				t.Setenv(env, filepath.Join(home, dir))
			}
			t.Setenv("REGISTRY_AUTH_FILE", "")
			t.Setenv("PATH", filepath.Join(home, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
			write(t, filepath.Join(home, "bin", "docker-credential-broken"), "#!/bin/sh\necho the keychain is locked\nexit 1\n")
			if err := os.Chmod(filepath.Join(home, "bin", "docker-credential-broken"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(home, "docker", "config.json"), strings.ReplaceAll(c.config, "HOST", f.host))
			pull := func() error {
				r := client(t, newLibrary(t), RegistryOptions{Keychain: defaultKeychain{}})
				_, err := r.Pull(t.Context(), f.host+"/x:1", nil, false)
				return err
			}
			if err := pull(); err != nil {
				t.Errorf("a public image: %v", err)
			}
			f.spoil = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(401)
			}
			f.takes = func(*http.Request) bool { return true }
			if err := pull(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "skiff login "+f.host) {
				t.Errorf("a private image: %v\nwant %q", err, c.want)
			}
		})
	}
}

// TestBrokenConfiguration: an error about a file of credentials names the line.
func TestBrokenConfiguration(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	for text, want := range map[string]string{
		"{\n\"auths\": {\n":                             "config.json:3: ",
		"{\n\"auths\": {},\n}":                          "config.json:3: ",
		"{\n\"auths\": [1]\n}":                          "config.json:2: ",
		"{\n \"auths\": {\n \"x\": {\"auth\": 3}\n}\n}": "config.json:3: ",
	} {
		write(t, filepath.Join(home, "config.json"), text)
		if _, err := DockerConfig(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRegistryConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if c, err := LoadRegistryConfig(); err != nil || c.Mirrors != nil {
		t.Errorf("no file: %+v %v", c, err)
	}
	file := filepath.Join(home, "skiff", "config.json")
	write(t, file, `{"mirrors":{"docker.io":["http://127.0.0.1:5099"]},"insecure":["h:1"]}`)
	c, err := LoadRegistryConfig()
	if err != nil || c.Mirrors["docker.io"][0] != "http://127.0.0.1:5099" || c.Insecure[0] != "h:1" {
		t.Errorf("%+v %v", c, err)
	}
	for text, line := range map[string]string{`{"mirror":{}}`: ":1: ", "{\n\"mirrors\": {\n": ":3: ", "{\n\"insecure\": {}\n}": ":2: "} {
		write(t, file, text)
		if _, err := LoadRegistryConfig(); err == nil || !strings.Contains(err.Error(), file+line) {
			t.Errorf("%q: %v, want %s", text, err, line)
		}
	}
}

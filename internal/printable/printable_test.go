package printable

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, été, 日本語, 👩‍👩‍👧": "plain text, été, 日本語, 👩‍👩‍👧",
		"\x1b]0;PWNED\x07\x1b[2J":     `\u001b]0;PWNED\u0007\u001b[2J`,
		"new\nline\r\ttab":            `new\nline\u000d\ttab`,
		"\x7f\u009b31m":               `\u007f\u009b31m`,
		"a\u202egnp.exe\u2066b":       `a\u202egnp.exe\u2066b`,
		"line\u2028paragraph\u2029":   `line\u2028paragraph\u2029`,
		"\x9b31m bytes \xff\xfe":      "\ufffd31m bytes \ufffd\ufffd",
		"tag\U000e0041":               `tag\udb40\udc41`,
		"\x00":                        `\u0000`,
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Text("a\n\tb\r"); got != "a\n\tb\\u000d" {
		t.Errorf("%q", got)
	}
}

// unseen returns the first character that would not be seen.
func unseen(text string, layout string) string {
	for _, r := range text {
		if hidden(r) && !strings.ContainsRune(layout, r) {
			return string(r)
		}
	}
	if !utf8.ValidString(text) {
		return "bytes that are no UTF-8"
	}
	return ""
}

func FuzzWriter(f *testing.F) {
	f.Add([]byte("\x1b[31m\xc2\x9b\r\n"), 3)
	f.Add([]byte("\xe2\x80\xae日本"), 1)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		var whole, parts bytes.Buffer
		w := NewWriter(&whole)
		_, _ = w.Write(data)
		_, _ = w.Write([]byte("end\n")) // what was cut off is known to be so
		if bad := unseen(whole.String(), "\n\t"); bad != "" {
			t.Errorf("%q leaves %q", data, bad)
		}
		at = max(0, min(at, len(data)))
		w = NewWriter(&parts)
		for _, p := range [][]byte{data[:at], data[at:], []byte("end\n")} {
			if n, err := w.Write(p); err != nil || n != len(p) {
				t.Fatal(n, err)
			}
		}
		if whole.String() != parts.String() {
			t.Errorf("in parts it is %q, else %q", parts.String(), whole.String())
		}
	})
}

// TestJSON: JSON that is written through a Writer is the same value.
func TestJSON(t *testing.T) {
	in := map[string]string{"a": "\x1b[0m\x7f\u009b\u202e\u2028\U000e0041 日本 \n\t"}
	var b bytes.Buffer
	enc := json.NewEncoder(NewWriter(&b))
	enc.SetEscapeHTML(false)
	if err := enc.Encode(in); err != nil {
		t.Fatal(err)
	}
	if bad := unseen(b.String(), "\n"); bad != "" {
		t.Errorf("%q is left in %q", bad, b.String())
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out["a"] != in["a"] {
		t.Errorf("%q, %v", out["a"], err)
	}
}

func TestOutput(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n":                "plain\n",
		"\x1b[1;31mred\x1b[0m\n": "red\n",
		"\x1b]0;title\x07text\n": "text\n",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n":     "link\n",
		"10%\r20%\r\n30%\n":                              "10%\n20%\n30%\n",
		"\x1b(Bcharset\x1b=keypad\x1b7\n":                "charsetkeypad\n",
		"\x1bPquery\x1b\\\x1b_apc\x1b\\\x1b^pm\x1b\\x\n": "x\n",
		"\x1b]0;never ends\nnext\n":                      "\nnext\n",
		"bell\a back\b\x00\x7f\u009b2J\n":                "bell\\u0007 back\\u0008\\u0000\\u007f\\u009b2J\n",
		"\x1b[2Jclear \u202ereversed\n":                  "clear \\u202ereversed\n",
		"\x1b[" + strings.Repeat("1;", maxSequence):      strings.Repeat("1;", maxSequence)[maxSequence-1:],
	} {
		var o Output
		if got := string(o.Clean([]byte(in))); got != want {
			t.Errorf("%.80q: %.80q, want %.80q", in, got, want)
		}
		// In pieces of any length it is the same.
		o = Output{}
		var got []byte
		for i := range len(in) {
			got = append(got, o.Clean([]byte{in[i]})...)
		}
		if string(got) != want {
			t.Errorf("%.80q byte by byte: %.80q, want %.80q", in, got, want)
		}
	}
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte("\x1b[31m\x1b]0;x\x07\r\n\xc2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o Output
		got := string(o.Clean(data))
		if bad := unseen(got, "\n\t"); bad != "" {
			t.Errorf("%q leaves %q", data, bad)
		}
	})
}

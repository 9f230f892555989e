package gnumake

import (
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// isBlank is a blank within a line.
func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isSpace is what separates words.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

const spaces = " \t\n\v\f\r"

func trimBlanks(s string) string { return strings.TrimLeft(s, spaces) }

func trimBlanksRight(s string) string { return strings.TrimRight(s, spaces) }

// words splits text at white space as make knows it. strings.Fields would take more for white space.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r < 128 && isSpace(byte(r)) })
}

// firstOf is the index of the first of the characters that is not quoted by a backslash, the text without those backslashes that quote
// one, and whether there is one. With references, $(…) is jumped over.
func firstOf(s, chars string, references bool) (at int, text string, ok bool) {
	var b []byte // made when the first backslash goes
	last := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '$' && references {
			if i+1 < len(s) && (s[i+1] == '(' || s[i+1] == '{') {
				i = skipReference(s, i) - 1
			}
			continue
		}
		if strings.IndexByte(chars, c) < 0 {
			continue
		}
		slashes := 0
		for i-slashes > last && s[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes == 0 {
			if b == nil {
				return i, s, true
			}
			b = append(b, s[last:i]...)
			return len(b), string(b) + s[i:], true
		}
		// Half of the backslashes go; an odd one quotes the character.
		b = append(b, s[last:i-slashes]...)
		b = append(b, strings.Repeat(`\`, slashes/2)...)
		last = i
		if slashes%2 == 0 {
			return len(b), string(b) + s[i:], true
		}
		b = append(b, c)
		last = i + 1
	}
	if b == nil {
		return -1, s, false
	}
	return -1, string(append(b, s[last:]...)), false
}

// withoutComment takes a comment away, and the backslashes before a quoted number sign.
func withoutComment(s string) string {
	if strings.IndexByte(s, '#') < 0 {
		return s
	}
	at, text, ok := firstOf(s, "#", true)
	if ok {
		return text[:at]
	}
	return text
}

// collapse joins the lines of a logical line: a backslash before a newline goes with the blanks around it for one space.
func collapse(s string) string {
	if strings.IndexByte(s, '\n') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\n' {
			b = append(b, s[i])
			continue
		}
		slashes := 0
		for slashes < len(b) && b[len(b)-1-slashes] == '\\' {
			slashes++
		}
		b = b[:len(b)-slashes]
		for range slashes / 2 {
			b = append(b, '\\')
		}
		if slashes%2 == 0 {
			b = append(b, '\n')
			continue
		}
		if slashes == 1 {
			for len(b) > 0 && isBlank(b[len(b)-1]) {
				b = b[:len(b)-1]
			}
		}
		b = append(b, ' ')
		for i+1 < len(s) && isBlank(s[i+1]) {
			i++
		}
	}
	return string(b)
}

// percent takes a pattern apart at its first percent sign that no backslash quotes. without is the text without those backslashes.
func percent(s string) (before, after, without string, ok bool) {
	at, text, ok := firstOf(s, "%", false)
	if !ok {
		return text, "", text, false
	}
	return text[:at], text[at+1:], text, true
}

// patsubst replaces words that match a pattern.
func patsubst(pattern, replacement, text string) string {
	pre, post, whole, isPattern := percent(pattern)
	rpre, rpost, rwhole, rPattern := percent(replacement)
	if !rPattern {
		rwhole = replacement
	}
	list := words(text)
	for i, w := range list {
		switch {
		case !isPattern:
			if w == whole {
				list[i] = rwhole
			}
		case len(w) >= len(pre)+len(post) && strings.HasPrefix(w, pre) && strings.HasSuffix(w, post):
			if rPattern {
				list[i] = rpre + w[len(pre):len(w)-len(post)] + rpost
			} else {
				list[i] = rwhole
			}
		}
	}
	return joinWords(list)
}

// joinWords joins words by spaces. Words that became nothing leave no space.
func joinWords(list []string) string {
	kept := list[:0]
	for _, w := range list {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

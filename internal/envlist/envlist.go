// Package envlist reads and changes lists of "NAME=VALUE", the form in which processes, image configs and the specs of containers have
// their environment (environ(7)). Of a name that stands in a list twice the last one counts, as for most programs. What has no "=" is no
// variable.
package envlist

import (
	"slices"
	"strings"
)

// Get returns the value of a variable, "" where it is not set.
func Get(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// Has reports whether a variable is set, be it to nothing.
func Has(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// Without returns a new list with no variable of the name.
func Without(env []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// With returns a new list in which each of more stands at the end, in the place of all of its name.
func With(env []string, more ...string) []string {
	env = slices.Clone(env)
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		env = append(Without(env, name), kv)
	}
	return env
}

package image

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/skiff-build/skiff/internal/store"
)

// RegistryError is a failure of a registry, with what the user can do about it.
type RegistryError struct {
	Step   string // "pull", "push", "resolve"
	Name   string // of the image
	Status int    // the HTTP status, 0 where there was no answer
	Hint   string
	Err    error
}

func (e *RegistryError) Error() string {
	s := e.Step + " " + FamiliarName(e.Name) + ": " + e.Hint
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *RegistryError) Unwrap() error { return e.Err }

// failure explains err, which came of step on the image name.
func failure(ctx context.Context, step, name, host string, err error) error {
	if err == nil {
		return nil
	}
	var done *RegistryError
	if errors.As(err, &done) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", step, FamiliarName(name), context.Cause(ctx))
	}
	e := &RegistryError{Step: step, Name: name, Err: err}
	var blob *blobError
	isBlob := errors.As(err, &blob)
	var status *transport.Error
	var slow *timeoutError
	var digest *store.DigestError
	var dns *net.DNSError
	var op *net.OpError
	var cert x509.UnknownAuthorityError
	switch {
	case errors.As(err, &status):
		e.Status = status.StatusCode
		e.Hint = statusHint(step, host, status.StatusCode)
		e.Err = shortStatus(status)
		if isBlob {
			e.Err = &blobError{blob.blob, e.Err}
		}
		if isBlob && step == "pull" && e.Status == http.StatusNotFound {
			e.Hint = "not found: the registry lacks a part of this image: push the image there again, or choose another tag"
		}
	case errors.As(err, &slow):
		e.Hint = "the registry hangs: try again, or set a mirror"
		if step == "push" {
			e.Hint = "the registry hangs: try again, layers that it has by then are not sent again"
		}
	case errors.As(err, &digest) && step == "push":
		return fmt.Errorf("push %s: %w", FamiliarName(name), err) // the store says what to do
	case errors.As(err, &digest), strings.Contains(err.Error(), "error verifying"):
		e.Hint = "what the registry sent is not what it announced: try again; if it stays, the registry, a mirror or a proxy is broken"
	case errors.As(err, &dns):
		e.Hint = fmt.Sprintf("cannot find the registry %s: check its name and the network", host)
	case errors.As(err, &cert):
		e.Hint = fmt.Sprintf("the certificate of %s is signed by nobody this machine trusts", host)
	case retryable(err):
		e.Hint = "the connection broke, several times: try again"
		if isBlob && step == "pull" {
			e.Hint = "the connection broke, several times: try again, what has come is kept"
		}
	case errors.As(err, &op):
		e.Hint = fmt.Sprintf("cannot reach the registry %s: check the network and the proxy settings", host)
	default:
		return fmt.Errorf("%s %s: %w", step, FamiliarName(name), err)
	}
	return e
}

// failure is [failure]; where the registry wants to know who asks and the program for credentials said nothing, that is why.
func (r *Registry) failure(ctx context.Context, step, what, host string, err error) error {
	err = failure(ctx, step, what, host, err)
	var e *RegistryError
	if !errors.As(err, &e) || e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
		return err
	}
	r.mu.Lock()
	helper := r.helpers[registryKey(host)]
	r.mu.Unlock()
	if helper != nil {
		e.Hint = fmt.Sprintf("access denied, and the credentials for %s cannot be had: %v: mend that, or take the line out and log in by `skiff login %s`", host, helper, host)
	}
	return err
}

// registryKey is the name under which go-containerregistry knows a registry.
func registryKey(host string) string {
	if reg, err := name.NewRegistry(host); err == nil {
		return reg.RegistryStr()
	}
	return host
}

func statusHint(step, host string, status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		switch step {
		case "login":
			return "the user name or the password is wrong"
		case "push":
			return fmt.Sprintf("access denied: log in by `skiff login %s` as a user who may push there", host)
		}
		return fmt.Sprintf("access denied: there is no such image, or it is private: check the name, or log in by `skiff login %s`", host)
	case http.StatusNotFound:
		if step == "push" {
			return fmt.Sprintf("%s has no such repository: create it there, or check the name", host)
		}
		return "not found: check the name and the tag"
	case http.StatusTooManyRequests:
		return fmt.Sprintf("%s limits the number of requests: log in by `skiff login %s`, set a mirror, or wait", host, host)
	case http.StatusRequestEntityTooLarge:
		return "the registry, or a proxy before it, does not accept layers of this size"
	}
	if status >= 500 {
		return fmt.Sprintf("%s is out of order: try again later", host)
	}
	return fmt.Sprintf("%s refuses", host)
}

// shortStatus keeps what the registry said, in a line.
func shortStatus(e *transport.Error) error {
	said := fmt.Sprintf("status %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	for _, d := range e.Errors {
		if d.Message != "" {
			said += ": " + d.Message
			break
		}
	}
	return &statusError{said, e}
}

type statusError struct {
	text string
	err  error
}

func (e *statusError) Error() string { return e.text }
func (e *statusError) Unwrap() error { return e.err }

// statusOf returns the HTTP status in err, 0 for none.
func statusOf(err error) int {
	var status *transport.Error
	if errors.As(err, &status) {
		return status.StatusCode
	}
	return 0
}

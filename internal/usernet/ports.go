package usernet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Port is one of this machine that leads to one of the program's.
type Port struct {
	Listen string // ADDRESS:PORT
	Inside uint16
}

// ParsePort reads docker's "[[ADDRESS:]PORT:]PORT[/tcp]". Without an address it is every one of the machine's; without a port the
// kernel chooses.
func ParsePort(text string) (p Port, err error) {
	rest, protocol, _ := strings.Cut(text, "/")
	if protocol != "" && protocol != "tcp" {
		return p, errors.New("only TCP is served")
	}
	i := strings.LastIndexByte(rest, ':')
	inside, err := strconv.ParseUint(rest[i+1:], 10, 16)
	if err != nil || inside == 0 {
		return p, errors.New("want [[ADDRESS:]PORT:]PORT")
	}
	p.Inside = uint16(inside)
	host, port := "", "0"
	if i >= 0 {
		if port = rest[:i]; strings.ContainsRune(port, ':') {
			if host, port, err = net.SplitHostPort(port); err != nil {
				return p, fmt.Errorf("want [[ADDRESS:]PORT:]PORT: %w", err)
			}
			if net.ParseIP(host) == nil {
				return p, fmt.Errorf("%q is no address", host)
			}
		}
		if port == "" {
			port = "0"
		} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return p, fmt.Errorf("%q is no port", port)
		}
	}
	p.Listen = net.JoinHostPort(host, port)
	return p, nil
}

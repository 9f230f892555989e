// Command tool is what steps run in the tests of package engine: a shell of a dozen words. Its arguments are commands,
// each ended by ";". Anything that goes wrong ends it with exit code 1.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 3 && os.Args[1] == "-c" { // as a shell
		os.Args = append(os.Args[:1], strings.Fields(os.Args[2])...)
	}
	for cmd := range slices.Values(split(os.Args[1:])) {
		if err := run(cmd[0], cmd[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", cmd[0], err)
			os.Exit(1)
		}
	}
}

func split(args []string) (cmds [][]string) {
	var cmd []string
	for _, a := range append(args, ";") {
		if a != ";" {
			cmd = append(cmd, a)
		} else if len(cmd) > 0 {
			cmds, cmd = append(cmds, cmd), nil
		}
	}
	return cmds
}

func run(name string, args []string) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch name {
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "warn":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "write": // PATH TEXT
		return os.WriteFile(arg(0), []byte(arg(1)), 0o644)
	case "append":
		f, err := os.OpenFile(arg(0), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(arg(1))
		return err
	case "cat":
		for _, p := range args {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", p, b)
		}
	case "copy": // FROM TO
		b, err := os.ReadFile(arg(0))
		if err != nil {
			return err
		}
		return os.WriteFile(arg(1), b, 0o644)
	case "ls":
		return list(arg(0))
	case "rm":
		return os.RemoveAll(arg(0))
	case "mkdir":
		return os.MkdirAll(arg(0), 0o755)
	case "link":
		return os.Symlink(arg(0), arg(1))
	case "hard":
		return os.Link(arg(0), arg(1))
	case "chown":
		id, _ := strconv.Atoi(arg(1))
		return os.Chown(arg(0), id, id)
	case "chmod":
		mode, _ := strconv.ParseUint(arg(1), 8, 32)
		return os.Chmod(arg(0), os.FileMode(mode))
	case "stat":
		fi, err := os.Lstat(arg(0))
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Printf("%s: %v %d:%d\n", arg(0), fi.Mode(), st.Uid, st.Gid)
	case "env":
		for _, name := range args {
			v, ok := os.LookupEnv(name)
			fmt.Printf("%s=%s %v\n", name, v, ok)
		}
	case "id":
		groups, _ := syscall.Getgroups()
		slices.Sort(groups)
		dir, _ := os.Getwd()
		host, _ := os.Hostname()
		fmt.Printf("uid %d gid %d groups %v cwd %s host %s\n", os.Getuid(), os.Getgid(), groups, dir, host)
	case "limit": // NUMBER of the limit
		n, _ := strconv.Atoi(arg(0))
		var l syscall.Rlimit
		if err := syscall.Getrlimit(n, &l); err != nil {
			return err
		}
		fmt.Printf("limit %d %d\n", l.Cur, l.Max)
	case "interfaces":
		is, err := net.Interfaces()
		if err != nil {
			return err
		}
		var names []string
		for _, i := range is {
			names = append(names, i.Name)
		}
		fmt.Println("interfaces", strings.Join(names, " "))
	case "connect": // NETWORK ADDRESS…: what comes of it
		for _, address := range args[1:] {
			c, err := net.DialTimeout(args[0], address, 5*time.Second)
			if err != nil {
				fmt.Println("connect", address, "no")
				continue
			}
			c.Close()
			fmt.Println("connect", address, "yes")
		}
	case "dial": // SOCKET
		c, err := net.Dial("unix", arg(0))
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		fmt.Printf("socket says %s\n", b)
		return err
	case "random":
		b := make([]byte, 16)
		f, err := os.Open("/dev/urandom")
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.ReadFull(f, b); err != nil {
			return err
		}
		return os.WriteFile(arg(0), fmt.Appendf(nil, "%x", b), 0o644)
	case "meet": // DIR OWN OTHER: waits until the other is there too
		if err := os.WriteFile(filepath.Join(arg(0), arg(1)), nil, 0o644); err != nil {
			return err
		}
		for range 1000 {
			if _, err := os.Stat(filepath.Join(arg(0), arg(2))); err == nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("%s did not come", arg(2))
	case "sleep":
		d, err := time.ParseDuration(arg(0))
		time.Sleep(d)
		return err
	case "missing": // PATH
		if _, err := os.Lstat(arg(0)); err == nil {
			return fmt.Errorf("%s is there", arg(0))
		}
	case "exit":
		code, _ := strconv.Atoi(arg(0))
		os.Exit(code)
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func list(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fmt.Println(dir+":", strings.Join(names, " "))
	return nil
}

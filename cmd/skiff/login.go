package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newLogin(g *global) *cobra.Command {
	var user, password string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:     "login [FLAGS] [REGISTRY]",
		Short:   "Keep the credentials for a registry where docker keeps them",
		Example: "  echo $TOKEN | skiff login -u me --password-stdin registry.example.com",
		Args:    maxArgs(1, "skiff login registry.example.com"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			registry := ""
			if len(args) == 1 {
				registry = args[0]
			}
			if fromStdin && password != "" {
				return &usageError{text: "--password and --password-stdin: only one of them can be given"}
			}
			user, password, err := credentials(cmd, user, password, fromStdin)
			if err != nil {
				return err
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			where, err := state.Login(ctx, registry, user, password)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Login Succeeded\nkept in %s\n", where)
			return nil
		}),
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "`NAME` of the user")
	cmd.Flags().StringVarP(&password, "password", "p", "", "`PASSWORD` or token; other programs can see it, --password-stdin is safer")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

// credentials asks on a terminal for what the flags do not say.
func credentials(cmd *cobra.Command, user, password string, fromStdin bool) (string, string, error) {
	if fromStdin {
		text, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return "", "", fmt.Errorf("read password: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	in, ok := cmd.InOrStdin().(*os.File)
	canAsk := ok && isTerminal(in) && !fromStdin
	if user == "" && canAsk {
		fmt.Fprint(cmd.ErrOrStderr(), "Username: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("read user name: %w", err)
		}
		user = strings.TrimSpace(line)
	}
	if password == "" && canAsk {
		fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		text, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", "", fmt.Errorf("read password: %w", err)
		}
		password = string(text)
	}
	if user == "" || password == "" {
		return "", "", &usageError{text: "the user name or the password is missing", hints: []string{"skiff login -u NAME --password-stdin REGISTRY"}}
	}
	return user, password, nil
}

func newLogout(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [REGISTRY]",
		Short: "Forget the credentials for a registry",
		Args:  maxArgs(1, "skiff logout registry.example.com"),
		RunE: func(cmd *cobra.Command, args []string) error {
			registry := ""
			if len(args) == 1 {
				registry = args[0]
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			if err := state.Logout(registry); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Removed the credentials")
			return nil
		},
	}
}

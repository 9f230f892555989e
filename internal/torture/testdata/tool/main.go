// The tool is what steps of the torture's images run.
package main

import (
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	var err error
	switch args := os.Args[1:]; args[0] {
	case "fill": // DIR N: N small files
		n, _ := strconv.Atoi(args[2])
		err = os.MkdirAll(args[1], 0o755)
		for i := 0; i < n && err == nil; i++ {
			err = os.WriteFile(filepath.Join(args[1], strconv.Itoa(i)), fmt.Appendln(nil, "file", i), 0o644)
		}
	case "sum": // OUT FILE|DIR…: the digest of what they hold
		h := sha256.New()
		for _, top := range args[2:] {
			err = filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
				return err
			})
			if err != nil {
				log.Fatal(err)
			}
		}
		err = os.WriteFile(args[1], fmt.Appendf(nil, "%x\n", h.Sum(nil)), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

func verify(ctx context.Context, j *job, req verifyReq) (resp verifyResp, err error) {
	if req.Cache == "" {
		return resp, j.snaps.Verify(ctx, req.Layer)
	}
	dir := filepath.Join(j.root, "cache", filepath.Base(req.Cache))
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return err
		}
		m := goOutput.FindStringSubmatch(path)
		if m == nil || !e.Type().IsRegular() {
			return nil
		}
		sum, err := digestFile(path)
		if err != nil || sum == m[1] {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		resp.Removed = append(resp.Removed, name)
		return os.Remove(path)
	})
	if err != nil {
		return resp, fmt.Errorf("cache %s: %w", req.Cache, err)
	}
	return resp, ctx.Err()
}

// goOutput is the name of an output in Go's build cache, which has the sha256 of its content (cmd/go/internal/cache, fileName). One of
// an action, which ends in -a, names an output and its size, so that a wrong one is a miss.
var goOutput = regexp.MustCompile(`/[0-9a-f]{2}/([0-9a-f]{64})-d$`)

func digestFile(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

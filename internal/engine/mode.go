package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/store"
)

// formatVersion is in every key: it grows when the same operation would give another layer than before, or when a
// layer is written in another way.
const formatVersion = 1

// modeRecord remembers which mode the child got the last time that the machine looked like this. Asking takes a
// process, which an unchanged build does not start.
type modeRecord struct {
	Mode sandbox.Mode `json:"mode"`
}

const kindMode = store.KindMode

// salt is the part of all keys that says how layers lie on the disk: owners above 0 are real ids of the machine in one
// mode, others in the next, and records in the third; and a step can tell the three apart.
func (e *Engine) salt(ctx context.Context) (string, error) {
	return e.salted.do(ctx, func(ctx context.Context) (string, error) {
		mode, err := e.mode(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("skiff engine %d %s", formatVersion, mode), nil
	})
}

// mode settles the mode for this engine. Where the machine has no namespaces at all it is the one that this user had last,
// with this state: steps that it has may still be used. Else it is "none": sources can be read. What has to run says itself
// why it cannot.
func (e *Engine) mode(ctx context.Context) (sandbox.Mode, error) {
	if e.o.Mode != "" {
		return e.o.Mode, nil
	}
	probed, err := sandbox.Probe()
	if err != nil {
		return e.withoutSteps(err), nil
	}
	key := hashLines("mode", "probed", string(probed), "uid", fmt.Sprint(os.Geteuid()))
	var rec modeRecord
	if err := e.o.Store.Get(kindMode, key, &rec); err == nil && rec.Mode != "" {
		if _, started := e.child.peek(); !started {
			e.o.Mode = rec.Mode // the child is to have it, or to fail
			return rec.Mode, nil
		}
	} else if err != nil && !errors.Is(err, store.ErrMiss) {
		return "", err
	}
	c, err := e.startChild(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		e.child.forget()
		return e.withoutSteps(err), nil
	}
	e.o.Mode = c.Mode() // of one that is started later, too
	e.introduce(c)
	rec.Mode = c.Mode()
	return c.Mode(), errors.Join(e.o.Store.Put(kindMode, key, rec), e.o.Store.Put(kindMode, lastModeKey(), rec))
}

// withoutSteps is for a machine on which no child comes up, for the reason why: files can be copied all the same, by a child without
// namespaces ([sandbox.ModeFiles]), and no step can run. What it writes is what a mode with the same owners on the disk would write, so
// that it may go on with a state of such a mode.
func (e *Engine) withoutSteps(why error) sandbox.Mode {
	last := e.lastMode()
	if runtime.GOOS != "linux" {
		return last
	}
	switch root := os.Geteuid() == 0; {
	case last == "none":
		last, e.onlyFiles = sandbox.ModeFiles, true
	case last == sandbox.ModeRoot && root, last == sandbox.ModeOneID && !root:
	default:
		return last
	}
	e.o.Mode, e.assumed, e.noSteps = sandbox.ModeFiles, "", why
	return last
}

func lastModeKey() store.Key { return hashLines("mode", "last", "uid", fmt.Sprint(os.Geteuid())) }

// lastMode is for a machine on which no child comes up: none may, once the keys are for this mode, in another.
func (e *Engine) lastMode() sandbox.Mode {
	var rec modeRecord
	if err := e.o.Store.Get(kindMode, lastModeKey(), &rec); err != nil || rec.Mode == "" {
		return "none"
	}
	e.assumed = rec.Mode
	return rec.Mode
}

// introduce says, the first time that steps run with this state, what they lack.
func (e *Engine) introduce(c *sandbox.Child) {
	var lines []string
	if c.Mode() == sandbox.ModeOneID {
		lines = append(lines, "steps have one user id ("+c.Note()+"): changes of owners and users are pretended to them")
	}
	e.internalVertex("[internal] enter the sandbox", func(log func(string)) error {
		for _, l := range lines {
			log(l)
		}
		return nil
	})
}

// forgetMode is for a machine that no longer gives the mode that a record promised.
func (e *Engine) forgetMode() {
	if probed, err := sandbox.Probe(); err == nil {
		_ = e.o.Store.Delete(kindMode, hashLines("mode", "probed", string(probed), "uid", fmt.Sprint(os.Geteuid())))
	}
}

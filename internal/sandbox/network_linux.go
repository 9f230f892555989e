package sandbox

import (
	"fmt"
	"os"

	"github.com/skiff-build/skiff/internal/usernet"
)

// network is what a step's network comes to: made beside its mounts, closed when its program has ended.
type network struct {
	made chan struct{} // closed when net or err is set
	net  *usernet.Network
	err  error
}

// attach starts to make the network that the step was given, if it has a namespace for it.
func (p *Prepared) attach() {
	if p.o.Network == nil || !p.po.Network {
		return
	}
	p.net = &network{made: make(chan struct{})}
	go func() {
		defer close(p.net.made)
		err := p.cmd.Process.WithHandle(func(pidfd uintptr) {
			p.net.net, p.net.err = usernet.Attach(int(pidfd), *p.o.Network)
		})
		if err != nil {
			p.net.err = fmt.Errorf("find the step's init: %w", err)
		}
	}()
}

// awaitNetwork waits until it is made. A machine on which none can be made is no reason not to run steps: most need none, and
// one that does says so. But it is told before.
func (p *Prepared) awaitNetwork() {
	if p.net == nil {
		return
	}
	if <-p.net.made; p.net.err != nil {
		p.tell(fmt.Sprintf("this step has no network: %v; %s", p.net.err, noNetworkMend))
	}
}

// noNetworkMend is the way out where the kernel gives no device.
const noNetworkMend = "load the kernel module veth, or give the step the host's network: --network=host --allow network.host"

// closeNetwork ends the network, and says, of a step that failed, what it did not reach.
func (p *Prepared) closeNetwork(failed bool) {
	if p.net == nil {
		return
	}
	<-p.net.made
	if p.net.net == nil {
		return
	}
	if failed {
		for _, line := range p.net.net.Notes() {
			p.tell("network of this step: " + line)
		}
	}
	p.net.net.Close()
	p.net = nil
}

func (p *Prepared) tell(line string) {
	if p.o.Tell != nil && p.ctx.Err() == nil {
		p.o.Tell(line)
	} else if os.Getenv("SKIFF_DEBUG") != "" {
		fmt.Fprintln(os.Stderr, line)
	}
}

package usernet

// Door is a way out to one place that the policy would refuse.
type Door struct {
	// Listen is the address, IP:PORT, at which the step finds the door, on the loopback interface of its own; empty: the step
	// dials the target itself.
	Listen string
	// Target is HOST:PORT as this process dials it.
	Target string
}

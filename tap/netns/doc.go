// Package netns makes, opens and works in network namespaces, with privilege
// or without.
//
// # Two ways in
//
// Where this process has CAP_SYS_ADMIN over a namespace (it is root, or lives
// in the user namespace that owns it), a thread enters it: Do locks a thread,
// enters, runs a function and goes back; a thread that cannot go back is left
// to die with its goroutine, never returned to the scheduler's pool.
//
// Otherwise the user namespace that owns the network namespace has to be
// entered first, which Linux allows only to single-threaded processes, and a
// Go program never is one. Then an agent works there: this same program,
// started again inside (see Init), which carries out registered operations
// and hands file descriptors back. The agent ends when its parent does,
// whatever way that ends.
//
// Call hides the difference: it runs an operation that was registered by name
// (Register) on a thread or in the agent.
//
//	func main() {
//		netns.Init() // first: this may be an agent
//		room, err := netns.New(netns.Options{})
//		...
//		err = room.Configure(netns.Config{Loopback: true})
//
// # Lifetime
//
// An anonymous namespace lives as long as its Namespace is open (and whatever
// runs inside); nothing of it is left after kill -9. One with a name is bound
// to /run/netns as by `ip netns add` and stays until Remove.
//
// A Namespace is safe for concurrent use. A nil *Namespace stands for the
// namespace this process is in.
package netns

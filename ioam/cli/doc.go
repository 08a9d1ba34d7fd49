// Package cli is the grammar of ip ioam: words in, text or JSON out, with
// ip's texts and exit codes. It knows no command line of its own: whoever has
// one gives it the words behind "ioam".
//
//	err := cli.Run(node, []string{"namespace", "add", "123", "data", "0xd1d10001"}, cli.Options{}, os.Stdout)
//
// It also reads and writes the encapsulating routes of ip -6 route ("encap
// ioam6 mode inline trace prealloc type 0x800000 ns 1 size 12").
package cli

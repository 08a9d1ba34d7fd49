// Package tracing is IOAM in lab files: the section ioam, and where commands
// find the nodes that it made. A program that imports it understands
//
//	ioam:
//	  namespaces: [{id: 123}]
//	  rooms:
//	    r1:
//	      node: 1
//	      tunnels:
//	        - fd00:2::/64 encap ioam6 mode encap tundst fd00:23::2 trace prealloc type 0xf00000 ns 123 size 96
//	    r2: {node: 2}
//	    r3: {node: 3, decapsulate: true}
//
// Every interface of a room that is listed takes part, with its index as id,
// unless the room says otherwise. All nodes' events go to one analyser.
package tracing

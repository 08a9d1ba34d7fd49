// Package path makes sense of many IOAM events: which way the packets of a
// flow take, how long each hop and the whole way last, what got lost or
// overtaken, and when the way changed.
//
// An Analyser is fed with the events of the nodes at which traces end (those
// with Event.Last; others are ignored) and asked for a Report at any time,
// which prints itself as text or as a graph for Mermaid or Graphviz.
//
// # Delays
//
// A hop's delay is the time between two neighbours' receive times, so it
// holds the waiting in the first node's queue, and it means as much as their
// clocks agree. Quantiles come from a histogram with a relative error of 3 %.
//
// # Loss
//
// Loss, duplicates and reordering come from the sequence numbers of
// edge-to-edge options. The encapsulating node counts the packets of a
// tunnel; so numbers are followed per outer source and destination for
// packets in tunnels, and per namespace for traces put in inline.
package path

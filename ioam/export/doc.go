// Package export writes IOAM events and findings in the forms that collectors
// read: JSON lines, IPFIX (RFC 7011) with the raw data, OpenTelemetry (OTLP
// over HTTP, in JSON) and Prometheus' text format.
//
// Encoders turn one thing into bytes and have no goroutines. OTLP alone talks
// to somebody: Follow batches a subscription's events and posts them, and
// drops what a collector that does not answer has no room for.
package export

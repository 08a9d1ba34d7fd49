package main

// The parts of lab files that subsystems registered for themselves, where no
// subcommand imports the subsystem anyway.
import _ "taproom/stack/lab/tracing"

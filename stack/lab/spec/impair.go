package spec

import (
	"time"

	"taproom/stack/wire"
)

// Impair is a change of a wire's settings: what is nil stays as it is.
type Impair struct {
	Delay        *Duration          `yaml:"delay" doc:"Delay of every frame."`
	Jitter       *Duration          `yaml:"jitter" doc:"Spread of the delay."`
	Distribution *wire.Distribution `yaml:"distribution" doc:"Shape of the jitter." enum:"uniform,normal,pareto,paretonormal"`
	Loss         *Percent           `yaml:"loss" doc:"Chance that a frame is lost."`
	Burst        *Burst             `yaml:"burst" doc:"Loss in bursts (Gilbert-Elliott)."`
	Rate         *Rate              `yaml:"rate" doc:"Speed of the line."`
	Queue        *int               `yaml:"queue" doc:"Packets that may wait for the line, 1000 if not given."`
	QueueBytes   *Size              `yaml:"queue-bytes" doc:"Bytes that may wait for the line."`
	Mark         *int               `yaml:"mark" doc:"Mark ECN-capable packets CE when this many wait."`
	Duplicate    *Percent           `yaml:"duplicate" doc:"Chance that a frame arrives twice."`
	Corrupt      *Percent           `yaml:"corrupt" doc:"Chance that one bit of a frame is flipped."`
	Reorder      *Percent           `yaml:"reorder" doc:"Chance that a frame skips the delay and overtakes others."`
	ReorderGap   *int               `yaml:"reorder-gap" doc:"Only every n-th frame may overtake."`
	LineMTU      *int               `yaml:"line-mtu" doc:"Frames with larger packets are dropped, silently as a bad path does."`
	State        *string            `yaml:"state" doc:"Carrier." enum:"up,down"`
}

// Burst is wire.Burst with chances as people write them.
type Burst struct {
	Enter Percent `yaml:"enter" doc:"Chance to enter the bad state, before each frame." required:"true"`
	Leave Percent `yaml:"leave" doc:"Chance to leave it." required:"true"`
	Bad   Percent `yaml:"bad" doc:"Loss in the bad state, 100% if not given."`
	Good  Percent `yaml:"good" doc:"Loss in the good state."`
}

// Apply changes w by what is set in i.
func (i *Impair) Apply(w *wire.Impairment) {
	set(&w.Delay, i.Delay, func(d Duration) time.Duration { return time.Duration(d) })
	set(&w.Jitter, i.Jitter, func(d Duration) time.Duration { return time.Duration(d) })
	set(&w.Distribution, i.Distribution, func(d wire.Distribution) wire.Distribution { return d })
	set(&w.Rate, i.Rate, func(r Rate) uint64 { return uint64(r) })
	set(&w.QueueBytes, i.QueueBytes, func(s Size) int { return int(s) })
	set(&w.Burst, i.Burst, func(b Burst) wire.Burst {
		return wire.Burst{Enter: float64(b.Enter), Leave: float64(b.Leave), Bad: float64(b.Bad), Good: float64(b.Good)}
	})
	set(&w.Down, i.State, func(s string) bool { return s == "down" })
	for _, f := range []struct {
		to   *float64
		from *Percent
	}{{&w.Loss, i.Loss}, {&w.Duplicate, i.Duplicate}, {&w.Corrupt, i.Corrupt}, {&w.Reorder, i.Reorder}} {
		set(f.to, f.from, func(p Percent) float64 { return float64(p) })
	}
	for _, f := range []struct{ to, from *int }{
		{&w.QueuePackets, i.Queue}, {&w.MarkPackets, i.Mark}, {&w.ReorderGap, i.ReorderGap}, {&w.MTU, i.LineMTU},
	} {
		set(f.to, f.from, func(n int) int { return n })
	}
}

func set[T, F any](to *T, from *F, convert func(F) T) {
	if from != nil {
		*to = convert(*from)
	}
}

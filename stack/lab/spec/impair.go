package spec

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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

// Merge takes over what is set in change.
func (i *Impair) Merge(change Impair) {
	to, from := reflect.ValueOf(i).Elem(), reflect.ValueOf(change)
	for f := range to.NumField() {
		if !from.Field(f).IsNil() {
			to.Field(f).Set(from.Field(f))
		}
	}
}

func set[T, F any](to *T, from *F, convert func(F) T) {
	if from != nil {
		*to = convert(*from)
	}
}

// Words describes a wire's settings in the words of the lab file; "plain" if
// there are none.
func Words(w wire.Impairment) string {
	var b strings.Builder
	word := func(on bool, name string, value any) {
		if !on {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if t, ok := value.(encoding.TextMarshaler); ok {
			text, _ := t.MarshalText()
			value = string(text)
		}
		fmt.Fprintf(&b, "%s %v", name, value)
	}
	word(w.Down, "state", "down")
	word(w.Delay > 0, "delay", Duration(w.Delay))
	word(w.Jitter > 0, "jitter", Duration(w.Jitter))
	word(w.Jitter > 0 && w.Distribution != wire.Uniform, "distribution", w.Distribution)
	word(w.Loss > 0, "loss", Percent(w.Loss))
	if w.Burst.Enter > 0 || w.Burst.Good > 0 {
		word(true, "burst", Percent(w.Burst.Enter))
		word(true, "leave", Percent(w.Burst.Leave))
	}
	word(w.Rate > 0, "rate", Rate(w.Rate))
	word(w.QueuePackets > 0, "queue", w.QueuePackets)
	word(w.QueueBytes > 0, "queue-bytes", w.QueueBytes)
	word(w.MarkPackets > 0, "mark", w.MarkPackets)
	word(w.Duplicate > 0, "duplicate", Percent(w.Duplicate))
	word(w.Corrupt > 0, "corrupt", Percent(w.Corrupt))
	word(w.Reorder > 0, "reorder", Percent(w.Reorder))
	word(w.ReorderGap > 0, "reorder-gap", w.ReorderGap)
	word(w.MTU > 0, "line-mtu", w.MTU)
	if b.Len() == 0 {
		return "plain"
	}
	return b.String()
}

// Keys are the settings that ParseWords knows.
func Keys() []string {
	var keys []string
	for _, f := range fieldsOf(reflect.TypeFor[Impair]()) {
		keys = append(keys, f.key)
	}
	return keys
}

// ParseWords reads settings as on a command line: key and value in turn, or
// key=value; "up" and "down" stand for a state. Burst takes the chances to
// enter and to leave, as 1%/30%.
func ParseWords(words []string) (Impair, error) {
	var i Impair
	v := reflect.ValueOf(&i).Elem()
	fields := fieldsOf(v.Type())
	d := &decoder{source: &source{}}
	for len(words) > 0 {
		key, value, ok := strings.Cut(words[0], "=")
		words = words[1:]
		switch {
		case key == "up" || key == "down":
			key, value = "state", key
		case !ok && len(words) == 0:
			return i, fmt.Errorf("%s needs a value", key)
		case !ok:
			value, words = words[0], words[1:]
		}
		n := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if n < 0 {
			return i, fmt.Errorf("no setting %q%s", key, suggest(key, append(Keys(), "up", "down")))
		}
		f := v.FieldByIndex(fields[n].index)
		p := reflect.New(f.Type().Elem())
		if text, ok := p.Interface().(*Burst); ok {
			enter, leave, _ := strings.Cut(value, "/")
			if err := errors.Join(text.Enter.UnmarshalText([]byte(enter)), text.Leave.UnmarshalText([]byte(leave))); err != nil {
				return i, fmt.Errorf("burst: want enter/leave, as 1%%/30%%: %w", err)
			}
		} else {
			d.decodeScalar(value, p.Elem(), key)
		}
		f.Set(p)
		d.checkEnum(fields[n], f, key)
		if len(d.errs) > 0 {
			return i, fmt.Errorf("%s: %s", key, d.errs[0].Message)
		}
	}
	return i, nil
}

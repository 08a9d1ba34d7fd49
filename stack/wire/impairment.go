package wire

import (
	"errors"
	"fmt"
	"time"
)

// ErrInvalid is what every rejected setting is.
var ErrInvalid = errors.New("invalid setting")

// Impairment is what one direction of a wire does to frames. The zero value
// does nothing: frames pass at once. It is a plain comparable value;
// probabilities are 0 to 1.
type Impairment struct {
	Delay        time.Duration // added to every frame
	Jitter       time.Duration // spread of the delay, see Distribution
	Distribution Distribution

	Loss  float64 // chance to lose a frame
	Burst Burst   // loss that comes in bursts

	// Rate is the line's speed in bit/s; 0 is unlimited. A frame counts with
	// its link-layer header and without preamble and checksum, as in netem
	// and tbf.
	Rate uint64
	// QueuePackets and QueueBytes bound what waits for its turn on a line
	// with a Rate, the frame in transmission included. Zero packets is
	// DefaultQueue, zero bytes is no bound in bytes.
	QueuePackets, QueueBytes int
	// MarkPackets turns on ECN: a frame that finds that many or more in the
	// queue is marked CE if its transport allows (RFC 3168). 0 is off.
	MarkPackets int

	Duplicate float64 // chance to deliver a frame twice
	Corrupt   float64 // chance to flip one bit of a frame
	// Reorder is the chance that a frame overtakes those before it: it
	// skips Delay and Jitter, so without a Delay nothing can be overtaken.
	// With a ReorderGap of n only every n-th frame has the chance.
	Reorder    float64
	ReorderGap int

	// MTU drops frames whose network packet is larger; 0 is no limit. The
	// interface's own MTU is another matter: a wire never says too big.
	MTU int
	// Down takes the carrier away: nothing passes, and what is on its way
	// is lost. The peer of a direction sees its carrier gone (tap.Info).
	Down bool
}

// DefaultQueue is the queue of a direction with a rate, in packets: that of
// netem and of most interfaces.
const DefaultQueue = 1000

// Burst is the Gilbert-Elliott model: a good and a bad state, with a chance to
// change before each frame and a chance to lose it in either state.
type Burst struct {
	Enter float64 // good to bad; 0 turns the model off
	Leave float64 // bad to good
	// Bad and Good are the chances of loss in the states. Bad is 1 if it is 0,
	// the simple Gilbert model.
	Bad, Good float64
}

// Distribution is the shape of jitter. With the mean Delay, all but Uniform
// have Jitter as standard deviation and are cut off at four of them; a
// delay that would be negative is zero.
type Distribution uint8

// The distributions.
const (
	Uniform      Distribution = iota // Delay ± Jitter, all values alike
	Normal                           // Gauss
	Pareto                           // long tail, shape 3
	ParetoNormal                     // a quarter normal, three quarters Pareto
	numDistributions
)

var distributionNames = [numDistributions]string{"uniform", "normal", "pareto", "paretonormal"}

func (d Distribution) String() string {
	if d < numDistributions {
		return distributionNames[d]
	}
	return fmt.Sprintf("distribution(%d)", uint8(d))
}

// ParseDistribution is the inverse of String.
func ParseDistribution(s string) (Distribution, error) {
	for i, n := range distributionNames {
		if n == s {
			return Distribution(i), nil
		}
	}
	return 0, fmt.Errorf("wire: distribution %q: %w: uniform, normal, pareto or paretonormal", s, ErrInvalid)
}

// Distributions are the names ParseDistribution knows.
func Distributions() []string { return distributionNames[:] }

// MarshalText makes JSON and YAML say the name.
func (d Distribution) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *Distribution) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDistribution(string(b))
	return err
}

// Validate names the first setting that makes no sense.
func (i Impairment) Validate() error {
	for _, c := range []struct {
		name string
		p    float64
	}{
		{"loss", i.Loss}, {"duplicate", i.Duplicate}, {"corrupt", i.Corrupt}, {"reorder", i.Reorder},
		{"burst enter", i.Burst.Enter}, {"burst leave", i.Burst.Leave},
		{"burst bad", i.Burst.Bad}, {"burst good", i.Burst.Good},
	} {
		if !(c.p >= 0 && c.p <= 1) {
			return fmt.Errorf("wire: %s %v: %w: a chance is between 0 and 1", c.name, c.p, ErrInvalid)
		}
	}
	for _, c := range []struct {
		name string
		n    int64
	}{
		{"delay", int64(i.Delay)}, {"jitter", int64(i.Jitter)}, {"mtu", int64(i.MTU)},
		{"queue packets", int64(i.QueuePackets)}, {"queue bytes", int64(i.QueueBytes)},
		{"mark packets", int64(i.MarkPackets)}, {"reorder gap", int64(i.ReorderGap)},
	} {
		if c.n < 0 {
			return fmt.Errorf("wire: %s %d: %w: negative", c.name, c.n, ErrInvalid)
		}
	}
	switch {
	case i.Delay > maxDelay || i.Jitter > maxDelay:
		return fmt.Errorf("wire: delay %v, jitter %v: %w: at most %v", i.Delay, i.Jitter, ErrInvalid, maxDelay)
	case i.Rate > maxRate || i.Rate > 0 && i.Rate < 8:
		return fmt.Errorf("wire: rate %d bit/s: %w: 8 bit/s to 1 Tbit/s", i.Rate, ErrInvalid)
	case i.Distribution >= numDistributions:
		return fmt.Errorf("wire: %v: %w", i.Distribution, ErrInvalid)
	case i.Reorder > 0 && i.Delay == 0:
		return fmt.Errorf("wire: reorder: %w: it needs a delay that a frame can skip", ErrInvalid)
	}
	return nil
}

// The bounds keep sums of due times far from overflow.
const (
	maxDelay = time.Hour
	maxRate  = 1e12
)

// passive reports whether frames pass at once and whole.
func (i Impairment) passive() bool {
	return !i.Down && !i.timed() && !i.judges() && i.MTU == 0
}

// timed reports whether frames can be due later than now.
func (i Impairment) timed() bool { return i.Delay > 0 || i.Jitter > 0 || i.Rate > 0 }

// judges reports whether each segment of a super-frame has to be looked at.
func (i Impairment) judges() bool {
	return i.Loss > 0 || i.Burst.Enter > 0 || i.Burst.Good > 0 || i.Duplicate > 0 || i.Corrupt > 0 ||
		i.Reorder > 0 || i.Rate > 0
}

// losesOnly reports whether all that happens to single segments is loss.
func (i Impairment) losesOnly() bool {
	i.Loss, i.Burst = 0, Burst{}
	return !i.judges()
}

package wire

import (
	"math"
	"math/rand/v2"
	"time"
)

// dice are the generators of one direction, one for each purpose, so that
// settings do not disturb each other's sequences.
type dice struct {
	loss, burst, duplicate, corrupt, reorder, jitter *rand.Rand

	bad bool // state of the Gilbert-Elliott model
	gap int  // frames since one was last given the chance to overtake
}

func newDice(seed, direction uint64) *dice {
	stream := direction << 32
	next := func() *rand.Rand {
		stream++
		return rand.New(rand.NewPCG(seed, stream))
	}
	return &dice{loss: next(), burst: next(), duplicate: next(), corrupt: next(), reorder: next(), jitter: next()}
}

func hit(r *rand.Rand, p float64) bool { return p > 0 && r.Float64() < p }

// lost tells the fate of the next frame.
func (d *dice) lost(i *Impairment) bool {
	lost := hit(d.loss, i.Loss)
	if i.Burst.Enter > 0 || i.Burst.Good > 0 {
		lost = d.burstLost(i.Burst) || lost // both models advance with every frame
	} else {
		d.bad = false
	}
	return lost
}

// burstLost advances the Gilbert-Elliott model by one frame. The state
// changes first, so the frame that enters the bad state can be lost in it.
func (d *dice) burstLost(b Burst) bool {
	if d.bad {
		d.bad = !hit(d.burst, b.Leave)
	} else {
		d.bad = hit(d.burst, b.Enter)
	}
	if !d.bad {
		return hit(d.burst, b.Good)
	}
	if b.Bad == 0 {
		return true
	}
	return hit(d.burst, b.Bad)
}

// overtakes tells whether the next frame skips the delay.
func (d *dice) overtakes(i *Impairment) bool {
	if i.Reorder == 0 {
		return false
	}
	d.gap++
	if d.gap < i.ReorderGap {
		return false
	}
	d.gap = 0
	return hit(d.reorder, i.Reorder)
}

// delay draws the delay of the next frame, never negative.
func (d *dice) delay(i *Impairment) time.Duration {
	if i.Jitter == 0 {
		return i.Delay
	}
	return max(0, i.Delay+time.Duration(float64(i.Jitter)*d.spread(i.Distribution)))
}

// tail is where the long distributions are cut, in standard deviations.
const tail = 4

// spread draws a value of mean 0 (before the cut); Uniform is within ±1, the
// others have a standard deviation of 1.
func (d *dice) spread(dist Distribution) float64 {
	switch dist {
	case Normal:
		return min(tail, max(-tail, d.jitter.NormFloat64()))
	case Pareto:
		return min(tail, d.pareto())
	case ParetoNormal:
		// The standard deviation of the mix is sqrt(0.25² + 0.75²).
		const sd = 0.7905694150420949
		return min(tail, max(-tail, (0.25*d.jitter.NormFloat64()+0.75*d.pareto())/sd))
	default:
		return 2*d.jitter.Float64() - 1
	}
}

// pareto draws from a Pareto distribution of shape 3 and scale 1 (mean 3/2,
// variance 3/4), brought to mean 0 and standard deviation 1.
func (d *dice) pareto() float64 {
	const mean, sd = 1.5, 0.8660254037844386
	x := math.Pow(1-d.jitter.Float64(), -1.0/3)
	return (x - mean) / sd
}

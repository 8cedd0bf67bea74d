package market

import (
	"bytes"
	"fmt"
	"slices"

	"fallow.network"
)

// Candidate is an offer with what the client knows beside it.
type Candidate struct {
	ID           fallow.Digest // of the offer's bytes
	Offer        Offer
	StandingPPM  uint32 // trust from settled, checked work: 0 for a newcomer, 1,000,000 for the best
	LatencyMS    uint32 // until its answer came
	InputBytes   uint64 // of the demand's inputs
	MissingBytes uint64 // of those, that the provider lacks
}

// Weights say how much each part counts. Only their ratios matter.
type Weights struct{ Price, Standing, Latency, Locality uint32 }

// DefaultWeights put price first.
func DefaultWeights() Weights { return Weights{Price: 60, Standing: 25, Latency: 5, Locality: 10} }

// points is the most that a part, or a score, can be.
const points = 1000

// halfLatencyMS is the latency that has half of the points.
const halfLatencyMS = 100

// Score is how good an offer is among others, from 0 to 1000, with its parts.
type Score struct {
	Total    uint32
	Price    uint32 // the cheapest cost over this one's
	Standing uint32
	Latency  uint32
	Locality uint32      // share of input bytes that are there already
	Cost     fallow.Pico // expected of the work
}

// String explains the score in one line.
func (s Score) String() string {
	return fmt.Sprintf("%d: price %d (%s credits for the work), standing %d, latency %d, inputs %d",
		s.Total, s.Price, s.Cost, s.Standing, s.Latency, s.Locality)
}

// Ranked is a candidate with its score.
type Ranked struct {
	Candidate
	Score Score
}

// Rank scores offers against each other and puts the best first. Those whose
// cost does not fit 128 bits are left out. Equal scores stand in the order of
// cost, then of the offers' digests.
func Rank(candidates []Candidate, work Work, w Weights) []Ranked {
	ranked := make([]Ranked, 0, len(candidates))
	cheapest := fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	for _, c := range candidates {
		cost, err := work.Cost(c.Offer.Terms, c.Offer.Kind)
		if err != nil {
			continue
		}
		if cost.Cmp(cheapest) < 0 {
			cheapest = cost
		}
		ranked = append(ranked, Ranked{Candidate: c, Score: Score{Cost: cost}})
	}
	for i := range ranked {
		ranked[i].score(cheapest, w)
	}
	slices.SortFunc(ranked, func(a, b Ranked) int {
		if a.Score.Total != b.Score.Total {
			return int(b.Score.Total) - int(a.Score.Total)
		}
		if c := a.Score.Cost.Cmp(b.Score.Cost); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return ranked
}

func (r *Ranked) score(cheapest fallow.Pico, w Weights) {
	s := &r.Score
	s.Price = ratio(cheapest, s.Cost)
	s.Standing = min(r.StandingPPM, 1_000_000) / 1000
	s.Latency = uint32(points * halfLatencyMS / (halfLatencyMS + uint64(r.LatencyMS)))
	s.Locality = points
	if r.InputBytes > 0 {
		there := r.InputBytes - min(r.MissingBytes, r.InputBytes)
		s.Locality = ratio(fallow.PicoOf(there), fallow.PicoOf(r.InputBytes))
	}
	sum := uint64(w.Price) + uint64(w.Standing) + uint64(w.Latency) + uint64(w.Locality)
	if sum == 0 {
		return
	}
	s.Total = uint32((uint64(w.Price)*uint64(s.Price) + uint64(w.Standing)*uint64(s.Standing) +
		uint64(w.Latency)*uint64(s.Latency) + uint64(w.Locality)*uint64(s.Locality)) / sum)
}

// ratio is points·a/b for a of at most b, and all points for b of zero.
func ratio(a, b fallow.Pico) uint32 {
	if b.IsZero() {
		return points
	}
	// Both are shifted alike until points·a fits; what is lost is below a point.
	for b.Hi > 1<<32 {
		a = fallow.Pico{Hi: a.Hi >> 16, Lo: a.Hi<<48 | a.Lo>>16}
		b = fallow.Pico{Hi: b.Hi >> 16, Lo: b.Hi<<48 | b.Lo>>16}
	}
	a, err := a.Mul(points)
	if err != nil {
		return points
	}
	n, err := a.Div(b)
	if err != nil {
		return points
	}
	return uint32(min(n, points))
}

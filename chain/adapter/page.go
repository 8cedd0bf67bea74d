package adapter

import (
	"errors"
	"fmt"

	"github.com/cosmos/cosmos-sdk/types/query"
)

// Bounds of a page.
const (
	pageLimit    = 100
	maxPageLimit = 1000
	maxSkip      = 100_000
)

// Turn is what to do with one item of a scan.
type Turn int

// Turns of a page.
const (
	Skip Turn = iota // it is before the page
	Take             // it is on the page
	Full             // the page is full, and there is more
)

// Page walks a request's page over a scan. After is the last key of the page
// before; what follows it is the page.
type Page struct {
	After       []byte
	skip, limit uint64
}

// NewPage reads a request; nil is a first page of 100.
func NewPage(r *query.PageRequest) (*Page, error) {
	if r == nil {
		return &Page{limit: pageLimit}, nil
	}
	switch {
	case r.Reverse:
		return nil, errors.New("pagination: no reverse order here")
	case r.CountTotal:
		return nil, errors.New("pagination: totals are not counted; follow next_key")
	case len(r.Key) > 0 && r.Offset > 0:
		return nil, errors.New("pagination: a key or an offset, not both")
	case r.Offset > maxSkip || len(r.Key) > 256:
		return nil, fmt.Errorf("pagination: offset above %d, or a key that is none", maxSkip)
	case r.Limit > maxPageLimit:
		return nil, fmt.Errorf("pagination: limit above %d", maxPageLimit)
	}
	p := &Page{After: r.Key, skip: r.Offset, limit: r.Limit}
	if p.limit == 0 {
		p.limit = pageLimit
	}
	return p, nil
}

// Want is how many items the page still looks at, the one behind it included.
func (p *Page) Want() int { return int(p.skip + p.limit + 1) }

// Next counts one more item.
func (p *Page) Next() Turn {
	switch {
	case p.skip > 0:
		p.skip--
		return Skip
	case p.limit > 0:
		p.limit--
		return Take
	default:
		return Full
	}
}

package fallow

import (
	"bytes"
	"maps"
	"slices"
)

// Memory is a Store in memory, for audits, simulations and tests. The zero
// value is empty and ready. It is not safe for concurrent use.
type Memory struct {
	keys   []string // ascending
	values map[string][]byte
}

// Get returns nil when the key is absent.
func (m *Memory) Get(key []byte) ([]byte, error) { return m.values[string(key)], nil }

// Set keeps a copy of value at key.
func (m *Memory) Set(key, value []byte) error {
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	k := string(key)
	if _, ok := m.values[k]; !ok {
		at, _ := slices.BinarySearch(m.keys, k)
		m.keys = slices.Insert(m.keys, at, k)
	}
	m.values[k] = append([]byte{}, value...)
	return nil
}

// Delete removes key; an absent one is no error.
func (m *Memory) Delete(key []byte) error {
	k := string(key)
	if _, ok := m.values[k]; ok {
		at, _ := slices.BinarySearch(m.keys, k)
		m.keys = slices.Delete(m.keys, at, at+1)
		delete(m.values, k)
	}
	return nil
}

// Scan visits keys in [start, end) in ascending order until yield returns false.
func (m *Memory) Scan(start, end []byte, yield func(key, value []byte) bool) error {
	at, _ := slices.BinarySearch(m.keys, string(start))
	for _, k := range m.keys[at:] {
		if end != nil && k >= string(end) || !yield([]byte(k), m.values[k]) {
			return nil
		}
	}
	return nil
}

// Len is how many keys there are.
func (m *Memory) Len() int { return len(m.keys) }

// Clone is an independent copy.
func (m *Memory) Clone() *Memory {
	return &Memory{keys: slices.Clone(m.keys), values: maps.Clone(m.values)}
}

// Overlay holds writes over a Store until Commit, so that a rule either
// happens as a whole or not at all, and so that a query can look ahead and
// write nothing.
type Overlay struct {
	under  Store
	keys   []string          // of writes, ascending
	writes map[string][]byte // nil is a deletion
}

// NewOverlay lies over under.
func NewOverlay(under Store) *Overlay {
	return &Overlay{under: under, writes: map[string][]byte{}}
}

// Get returns nil when the key is absent.
func (o *Overlay) Get(key []byte) ([]byte, error) {
	if v, ok := o.writes[string(key)]; ok {
		return v, nil
	}
	return o.under.Get(key)
}

// Set keeps a copy of value at key until Commit.
func (o *Overlay) Set(key, value []byte) error {
	o.write(string(key), append([]byte{}, value...))
	return nil
}

// Delete removes key.
func (o *Overlay) Delete(key []byte) error {
	o.write(string(key), nil)
	return nil
}

func (o *Overlay) write(key string, value []byte) {
	if _, ok := o.writes[key]; !ok {
		at, _ := slices.BinarySearch(o.keys, key)
		o.keys = slices.Insert(o.keys, at, key)
	}
	o.writes[key] = value
}

// Scan visits keys in [start, end) of what Commit would leave, in ascending
// order, until yield returns false.
func (o *Overlay) Scan(start, end []byte, yield func(key, value []byte) bool) error {
	from, _ := slices.BinarySearch(o.keys, string(start))
	ours := o.keys[from:]
	if end != nil {
		to, _ := slices.BinarySearch(ours, string(end))
		ours = ours[:to]
	}
	stopped := false
	give := func(key, value []byte) bool {
		stopped = stopped || !yield(key, value)
		return !stopped
	}
	err := o.under.Scan(start, end, func(key, value []byte) bool {
		for len(ours) > 0 && ours[0] < string(key) {
			k := ours[0]
			ours = ours[1:]
			if v := o.writes[k]; v != nil && !give([]byte(k), v) {
				return false
			}
		}
		if len(ours) > 0 && ours[0] == string(key) {
			ours = ours[1:]
			v := o.writes[string(key)]
			return v == nil || give(key, v)
		}
		return give(key, value)
	})
	if err != nil || stopped {
		return err
	}
	for _, k := range ours {
		if v := o.writes[k]; v != nil && !give([]byte(k), v) {
			return nil
		}
	}
	return nil
}

// Commit writes what changed to the Store below, in ascending order of keys,
// and empties the overlay. A write of what stands there already is left out.
func (o *Overlay) Commit() error {
	for _, k := range o.keys {
		v := o.writes[k]
		was, err := o.under.Get([]byte(k))
		switch {
		case err != nil:
			return err
		case v == nil && was != nil:
			err = o.under.Delete([]byte(k))
		case v != nil && (was == nil || !bytes.Equal(v, was)):
			err = o.under.Set([]byte(k), v)
		}
		if err != nil {
			return err
		}
	}
	clear(o.writes)
	o.keys = nil
	return nil
}

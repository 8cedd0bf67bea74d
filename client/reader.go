package client

import "context"

// Reader reads what a home knows of its jobs. It needs no ledger, no key and
// no network, so it answers while they are away.
type Reader struct{ c *Client }

// Read opens a home for reading. Close it.
func Read(ctx context.Context, home string) (*Reader, error) {
	s, err := openStore(ctx, Config{Home: home}.db())
	if err != nil {
		return nil, err
	}
	return &Reader{&Client{store: s}}, nil
}

// Close ends what Read opened.
func (r *Reader) Close() error { return r.c.store.close() }

// Jobs lists the jobs of this home, oldest first.
func (r *Reader) Jobs(ctx context.Context) ([]Job, error) { return r.c.Jobs(ctx) }

// Outputs lists the files that a job's tasks left.
func (r *Reader) Outputs(ctx context.Context, id JobID) ([]Output, error) {
	return r.c.Outputs(ctx, id)
}

// Bill makes up the bill of a job as it stands.
func (r *Reader) Bill(ctx context.Context, id JobID) (*Bill, error) { return r.c.Bill(ctx, id) }

// Life tells what a job went through so far.
func (r *Reader) Life(ctx context.Context, id JobID) (*Life, error) { return r.c.Life(ctx, id) }

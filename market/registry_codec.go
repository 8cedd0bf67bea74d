package market

import "fallow.network"

func encodeRegistryParams(p RegistryParams) []byte {
	w := fallow.NewRecord(recordVersion)
	w.Uint(uint64(p.MinBond))
	w.Uint(p.UnbondingMS)
	w.Uint(p.BondPrice)
	w.Uint(uint64(len(p.Allowed)))
	for _, a := range p.Allowed {
		w.String(string(a))
	}
	w.Uint(uint64(p.MaxAttributes))
	w.Uint(uint64(p.MaxNodes))
	return w.Done()
}

func decodeRegistryParams(b []byte) (RegistryParams, error) {
	r := fallow.ReadRecord(b, recordVersion)
	p := RegistryParams{MinBond: Tokens(r.Uint()), UnbondingMS: r.Uint(), BondPrice: r.Uint()}
	for range r.Count() {
		p.Allowed = append(p.Allowed, fallow.Account(r.String()))
	}
	p.MaxAttributes = r.Uint32()
	p.MaxNodes = r.Uint32()
	return p, r.Done()
}

func encodeProvider(p Provider) []byte {
	w := fallow.NewRecord(recordVersion)
	w.String(string(p.Owner))
	w.Uint(uint64(p.Bond))
	w.Uint(uint64(len(p.Nodes)))
	for _, n := range p.Nodes {
		w.Bytes(n.Key[:])
		w.Uint(n.Epoch)
		writeStrings(w, n.Addrs)
	}
	w.Uint(uint64(len(p.Attributes)))
	for _, a := range p.Attributes {
		w.String(a.Key)
		w.String(a.Value)
	}
	w.String(p.Region)
	writeStrings(w, p.Hubs)
	w.Bool(p.Paused)
	w.Uint(uint64(p.Unbonding))
	w.Time(int64(p.Unbonds))
	w.Time(int64(p.Registered))
	w.Uint(p.LastEpoch)
	return w.Done()
}

func decodeProvider(b []byte) (Provider, error) {
	r := fallow.ReadRecord(b, recordVersion)
	p := Provider{Owner: fallow.Account(r.String()), Bond: Tokens(r.Uint())}
	for range r.Count() {
		var n Node
		r.Fixed(n.Key[:])
		n.Epoch = r.Uint()
		n.Addrs = readStrings(r)
		p.Nodes = append(p.Nodes, n)
	}
	for range r.Count() {
		p.Attributes = append(p.Attributes, Attribute{Key: r.String(), Value: r.String()})
	}
	p.Region = r.String()
	p.Hubs = readStrings(r)
	p.Paused = r.Bool()
	p.Unbonding = Tokens(r.Uint())
	p.Unbonds = fallow.Time(r.Time())
	p.Registered = fallow.Height(r.Time())
	p.LastEpoch = r.Uint()
	return p, r.Done()
}

func writeStrings(w *fallow.RecordWriter, list []string) {
	w.Uint(uint64(len(list)))
	for _, s := range list {
		w.String(s)
	}
}

func readStrings(r *fallow.RecordReader) []string {
	var list []string
	for range r.Count() {
		list = append(list, r.String())
	}
	return list
}

package wire

import (
	"fmt"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	"fallow.network/market"
)

// Demand decodes a demand's bytes.
func Demand(b []byte) (market.Demand, error) {
	var m marketv1.Demand
	if err := unmarshal("demand", b, MaxDemand, &m); err != nil {
		return market.Demand{}, err
	}
	var r reader
	d := market.Demand{
		Tenant:     r.account("tenant", m.GetTenant()),
		SessionKey: r.key("session_key", m.GetSessionKey()),
		Kind:       market.Kind(m.GetKind()),
		Class:      fallow.Class(m.GetClass()),
		Profile:    m.GetProfile(),
		Slot:       resources(m.GetSlot()),
		Slots:      m.GetSlots(),
		Placement:  r.placement(m.GetPlacement()),
		Workload:   r.digest("workload", m.GetWorkload()),
		Expires:    fallow.Time(m.GetExpiresUnixMs()),
		Seconds:    m.GetSeconds(),
		Tasks:      m.GetTasks(),
	}
	r.fixed("client_key", d.ClientKey[:], m.GetClientKey())
	r.fixed("sealing_key", d.SealingKey[:], m.GetSealingKey())
	r.fixed("nonce", d.Nonce[:], m.GetNonce())
	for i, in := range m.GetInputs() {
		blob, err := Blob(in)
		r.fail(fmt.Sprintf("inputs[%d]", i), err)
		d.Inputs = append(d.Inputs, blob)
	}
	r.fail("demand", d.Check())
	if r.err != nil {
		return market.Demand{}, malformed("demand", r.err)
	}
	return d, nil
}

// EncodeDemand writes d; it fails when d is out of bounds.
func EncodeDemand(d market.Demand) ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, malformed("demand", err)
	}
	m := &marketv1.Demand{
		Tenant:        string(d.Tenant),
		ClientKey:     d.ClientKey[:],
		SessionKey:    d.SessionKey[:],
		SealingKey:    d.SealingKey[:],
		Nonce:         d.Nonce[:],
		Kind:          marketv1.LeaseKind(d.Kind),
		Class:         string(d.Class),
		Profile:       d.Profile,
		Slot:          toResources(d.Slot),
		Slots:         d.Slots,
		Placement:     toPlacement(d.Placement),
		Workload:      d.Workload[:],
		ExpiresUnixMs: int64(d.Expires),
		Seconds:       d.Seconds,
		Tasks:         d.Tasks,
	}
	for _, in := range d.Inputs {
		m.Inputs = append(m.Inputs, ToBlob(in))
	}
	return marshal("demand", m)
}

// Offer decodes an offer's bytes.
func Offer(b []byte) (market.Offer, error) {
	var m marketv1.Offer
	if err := unmarshal("offer", b, MaxOffer, &m); err != nil {
		return market.Offer{}, err
	}
	var r reader
	o := market.Offer{
		Demand:     r.digest("demand", m.GetDemand()),
		Tenant:     r.account("tenant", m.GetTenant()),
		Provider:   r.account("provider", m.GetProvider()),
		NodeKey:    r.key("node_key", m.GetNodeKey()),
		KeyEpoch:   m.GetKeyEpoch(),
		Kind:       market.Kind(m.GetKind()),
		Workload:   r.digest("workload", m.GetWorkload()),
		Terms:      terms(m.GetTerms()),
		LastHeight: fallow.Height(m.GetLastHeight()),
		Profile:    m.GetProfile(),
	}
	r.fixed("nonce", o.Nonce[:], m.GetNonce())
	r.fail("offer", o.Check())
	if r.err != nil {
		return market.Offer{}, malformed("offer", r.err)
	}
	return o, nil
}

// EncodeOffer writes o; it fails when o is out of bounds.
func EncodeOffer(o market.Offer) ([]byte, error) {
	if err := o.Check(); err != nil {
		return nil, malformed("offer", err)
	}
	return marshal("offer", &marketv1.Offer{
		Demand:     o.Demand[:],
		Tenant:     string(o.Tenant),
		Provider:   string(o.Provider),
		NodeKey:    o.NodeKey[:],
		KeyEpoch:   o.KeyEpoch,
		Kind:       marketv1.LeaseKind(o.Kind),
		Workload:   o.Workload[:],
		Terms:      toTerms(o.Terms),
		Nonce:      o.Nonce[:],
		LastHeight: int64(o.LastHeight),
		Profile:    o.Profile,
	})
}

// Answer decodes an answer's bytes. The offer inside is not opened.
func Answer(b []byte) (market.Answer, error) {
	var m marketv1.Answer
	if err := unmarshal("answer", b, MaxAnswer, &m); err != nil {
		return market.Answer{}, err
	}
	var r reader
	a := market.Answer{
		Provider: r.account("provider", m.GetProvider()),
		NodeKey:  r.key("node_key", m.GetNodeKey()),
		Reason:   fallow.Reason(m.GetReason()),
		Detail:   m.GetDetail(),
		Addrs:    m.GetAddrs(),
		Region:   m.GetRegion(),
		Protocol: m.GetProtocol(),
	}
	if m.GetOffer() != nil {
		var err error
		a.Offer, err = Signed(m.GetOffer())
		r.fail("offer", err)
	}
	for i, h := range m.GetHas() {
		a.Has = append(a.Has, r.digest(fmt.Sprintf("has[%d]", i), h))
	}
	r.fail("answer", a.Check())
	if r.err != nil {
		return market.Answer{}, malformed("answer", r.err)
	}
	return a, nil
}

// EncodeAnswer writes a; it fails when a is out of bounds.
func EncodeAnswer(a market.Answer) ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, malformed("answer", err)
	}
	m := &marketv1.Answer{
		Provider: string(a.Provider),
		NodeKey:  a.NodeKey[:],
		Reason:   string(a.Reason),
		Detail:   a.Detail,
		Addrs:    a.Addrs,
		Region:   a.Region,
		Protocol: a.Protocol,
	}
	if len(a.Offer.Message) > 0 {
		m.Offer = ToSigned(a.Offer)
	}
	for _, h := range a.Has {
		m.Has = append(m.Has, h[:])
	}
	return marshal("answer", m)
}

// Signed converts a signed message; what it signs stays unread.
func Signed(m *marketv1.Signed) (market.Signed, error) {
	if n := len(m.GetMessage()); n == 0 || n > MaxReceipt {
		return market.Signed{}, malformed("signed", fmt.Errorf("message of %d bytes: want 1 to %d", n, MaxReceipt))
	}
	if n := len(m.GetSignature()); n != signatureSize {
		return market.Signed{}, malformed("signed", fmt.Errorf("signature of %d bytes: want %d", n, signatureSize))
	}
	return market.Signed{Message: m.GetMessage(), Signature: m.GetSignature()}, nil
}

// ToSigned converts s for sending.
func ToSigned(s market.Signed) *marketv1.Signed {
	return &marketv1.Signed{Message: s.Message, Signature: s.Signature}
}

// Blob converts a content descriptor.
func Blob(m *marketv1.Blob) (market.Blob, error) {
	d, err := fallow.DigestFrom(m.GetDigest())
	if err != nil {
		return market.Blob{}, malformed("blob", err)
	}
	b := market.Blob{Digest: d, Size: m.GetSize(), MediaType: m.GetMediaType()}
	if err := b.Check(); err != nil {
		return market.Blob{}, malformed("blob", err)
	}
	return b, nil
}

// ToBlob converts b for sending.
func ToBlob(b market.Blob) *marketv1.Blob {
	return &marketv1.Blob{Digest: b.Digest[:], Size: b.Size, MediaType: b.MediaType}
}

func pico(m *marketv1.Pico) fallow.Pico { return fallow.Pico{Hi: m.GetHi(), Lo: m.GetLo()} }

func toPico(p fallow.Pico) *marketv1.Pico {
	if p.IsZero() {
		return nil
	}
	return &marketv1.Pico{Hi: p.Hi, Lo: p.Lo}
}

func resources(m *marketv1.Resources) market.Resources {
	return market.Resources{
		MilliCPU: m.GetMilliCpu(),
		Memory:   m.GetMemoryBytes(),
		Disk:     m.GetDiskBytes(),
		GPUs:     m.GetGpus(),
		GPUModel: m.GetGpuModel(),
	}
}

func toResources(r market.Resources) *marketv1.Resources {
	return &marketv1.Resources{
		MilliCpu:    r.MilliCPU,
		MemoryBytes: r.Memory,
		DiskBytes:   r.Disk,
		Gpus:        r.GPUs,
		GpuModel:    r.GPUModel,
	}
}

func (r *reader) placement(m *marketv1.Placement) market.Placement {
	p := market.Placement{Regions: m.GetRegions()}
	for _, a := range m.GetAttributes() {
		p.Attributes = append(p.Attributes, market.Attribute{Key: a.GetKey(), Value: a.GetValue()})
	}
	for _, a := range m.GetProviders() {
		p.Providers = append(p.Providers, r.account("placement", a))
	}
	for _, a := range m.GetExcluded() {
		p.Excluded = append(p.Excluded, r.account("placement", a))
	}
	return p
}

func toPlacement(p market.Placement) *marketv1.Placement {
	m := &marketv1.Placement{Regions: p.Regions}
	for _, a := range p.Attributes {
		m.Attributes = append(m.Attributes, &marketv1.Attribute{Key: a.Key, Value: a.Value})
	}
	for _, a := range p.Providers {
		m.Providers = append(m.Providers, string(a))
	}
	for _, a := range p.Excluded {
		m.Excluded = append(m.Excluded, string(a))
	}
	return m
}

func terms(m *marketv1.Terms) market.Terms {
	return market.Terms{
		GasPrice:      pico(m.GetGasPrice()),
		TaskFee:       pico(m.GetTaskFee()),
		SecondPrice:   pico(m.GetSecondPrice()),
		DiskPrice:     pico(m.GetDiskPrice()),
		Slots:         m.GetSlots(),
		Slot:          resources(m.GetSlot()),
		LeastSpeed:    m.GetLeastSpeed(),
		UnpaidCeiling: fallow.Credits(m.GetUnpaidCeiling()),
		MaxReserve:    fallow.Credits(m.GetMaxReserve()),
		ClaimWindowMS: m.GetClaimWindowMs(),
		IdleMS:        m.GetIdleMs(),
	}
}

func toTerms(t market.Terms) *marketv1.Terms {
	return &marketv1.Terms{
		GasPrice:      toPico(t.GasPrice),
		TaskFee:       toPico(t.TaskFee),
		SecondPrice:   toPico(t.SecondPrice),
		DiskPrice:     toPico(t.DiskPrice),
		Slots:         t.Slots,
		Slot:          toResources(t.Slot),
		LeastSpeed:    t.LeastSpeed,
		UnpaidCeiling: uint64(t.UnpaidCeiling),
		MaxReserve:    uint64(t.MaxReserve),
		ClaimWindowMs: t.ClaimWindowMS,
		IdleMs:        t.IdleMS,
	}
}

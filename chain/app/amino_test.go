package app

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	"github.com/cosmos/gogoproto/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
	"fallow.network/market"
	"fallow.network/settle"
)

var writeGolden = flag.Bool("golden", false, "write the golden files anew")

// everyMessage is one of each message of ours, full and empty.
func everyMessage() []sdk.Msg {
	who := newPerson("ann").String()
	key := bytes.Repeat([]byte{7}, 32)
	one := leaseapi.Signed{Message: []byte{1, 2, 3}, Signature: []byte{4, 5, 6}}
	nodes := []providerapi.NodeKey{{Key: key, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Rotate: true}, {Key: key}}
	attributes := []providerapi.Attribute{{Key: "tier", Value: "home"}, {Key: "empty"}}
	return []sdk.Msg{
		&providerapi.MsgRegister{Owner: who, Bond: 100, Nodes: nodes, Attributes: attributes, Region: "here & <there>", Hubs: []string{"/dns/hub"}},
		&providerapi.MsgRegister{Owner: who},
		&providerapi.MsgUpdate{Owner: who, Nodes: nodes, Attributes: attributes, Region: "eu", Hubs: []string{"a", "b"}},
		&providerapi.MsgUpdate{Owner: who},
		&providerapi.MsgBond{Owner: who, Amount: 18_446_744_073_709_551_615},
		&providerapi.MsgPause{Owner: who, Paused: true},
		&providerapi.MsgPause{Owner: who},
		&providerapi.MsgUnbond{Owner: who, Amount: 1},
		&providerapi.MsgUpdateParams{Authority: who, Params: provider.ToParams(market.DefaultRegistryParams())},
		&leaseapi.MsgDeposit{Sender: who, Tenant: who, Amount: 5},
		&leaseapi.MsgDeposit{Sender: who, Amount: 5},
		&leaseapi.MsgWithdraw{Tenant: who},
		&leaseapi.MsgSetClientKey{Tenant: who, Address: who, Limit: 9, ExpiresHeight: 77},
		&leaseapi.MsgOpenLeases{Signer: who, Tenant: who, Entries: []leaseapi.OpenEntry{{Offer: one, SessionKey: key, Reserve: 3}, {}}},
		&leaseapi.MsgOpenLeases{Signer: who, Tenant: who},
		&leaseapi.MsgRaise{Signer: who, Lease: 1, Reserve: 2},
		&leaseapi.MsgRelease{Signer: who, Releases: []leaseapi.Signed{one, {}}},
		&leaseapi.MsgStart{Signer: who, Horizons: []leaseapi.Signed{one}},
		&leaseapi.MsgRedeem{Signer: who, Vouchers: []leaseapi.Signed{one}, Services: []uint64{1, 18_446_744_073_709_551_615}},
		&leaseapi.MsgRedeem{Signer: who},
		&leaseapi.MsgClose{Signer: who, Leases: []uint64{4, 5}, Reason: "completed"},
		&leaseapi.MsgUpdateParams{Authority: who, Params: lease.ToParams(settle.DefaultParams())},
	}
}

// TestAminoJSON keeps what wallets sign in amino mode, message by message, as
// testdata/amino.jsonl has it.
func TestAminoJSON(t *testing.T) {
	app := freshApp(t)
	var got bytes.Buffer
	seen := map[string]bool{}
	for _, msg := range everyMessage() {
		seen[sdk.MsgTypeURL(msg)] = true
		b := app.txConfig.NewTxBuilder()
		if err := b.SetMsgs(msg); err != nil {
			t.Fatal(err)
		}
		raw, err := authsigning.GetSignBytesAdapter(t.Context(), app.txConfig.SignModeHandler(), signing.SignMode_SIGN_MODE_LEGACY_AMINO_JSON,
			authsigning.SignerData{ChainID: testChain, AccountNumber: 1, Sequence: 2, PubKey: newPerson("ann").key.PubKey(), Address: newPerson("ann").String()}, b.GetTx())
		if err != nil {
			t.Fatalf("%s: %v", sdk.MsgTypeURL(msg), err)
		}
		var doc struct {
			Msgs []json.RawMessage `json:"msgs"`
		}
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		got.Write(append(doc.Msgs[0], '\n'))
	}
	for _, service := range []string{"fallow.lease.v1.Msg", "fallow.provider.v1.Msg"} {
		for _, m := range methods(t, service) {
			if !seen["/"+m] {
				t.Errorf("no example of %s", m)
			}
		}
	}
	const file = "testdata/amino.jsonl"
	if *writeGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("what wallets sign has changed (run with -golden if it should):\n%s", got.Bytes())
	}
}

// methods are the inputs of a service's methods.
func methods(t *testing.T, service string) []string {
	t.Helper()
	d, err := protoFiles(t).FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	list := d.(protoreflect.ServiceDescriptor).Methods()
	for i := range list.Len() {
		names = append(names, string(list.Get(i).Input().FullName()))
	}
	return names
}

func protoFiles(t *testing.T) *protoregistry.Files {
	t.Helper()
	files, err := proto.MergedRegistry()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

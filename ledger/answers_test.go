package ledger

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// answersOfANode are what a node says, as far as it is read here.
var answersOfANode = []string{
	`{"node_info":{"network":"fallow-1"},"sync_info":{"latest_block_height":"12","latest_block_time":"2026-01-02T03:04:05Z","earliest_block_height":"1","catching_up":false}}`,
	`{"block":{"header":{"height":"7","time":"2026-01-02T03:04:05Z"},"data":{"txs":["AAEC",""]}}}`,
	`{"txs_results":[{"code":5,"data":"AAE=","log":"x","gas_wanted":"9","gas_used":"8","events":[],"codespace":"sdk"}],"finalize_block_events":[{"type":"fallow.lease.v1.EventLeaseOpened","attributes":[{"key":"lease","value":"\"7\""},{"key":"mode","value":"EndBlock"}]}]}`,
	`{"result":{"data":{"value":{"header":{"height":"7","time":"2026-01-02T03:04:05Z"}}}}}`,
	`{"error":{"code":-1,"message":"no","data":"more"}}`,
}

// TestAnswersTakeAnything bends a node's answers at any place: they are read or
// refused, and break nothing. Go can't fuzz here: it would instrument all of the
// ledger's generated types.
func TestAnswersTakeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(rapid.SampledFrom(answersOfANode).Draw(t, "answer"))
		for range rapid.IntRange(0, 4).Draw(t, "bends") {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				b[at] = rapid.Byte().Draw(t, "byte")
			case 1:
				b = b[:at+1]
			case 2:
				piece := rapid.SampledFrom([]string{"null", "{}", "[]", `"`, "-1", "1e999", "99999999999999999999", "[[[[", `{"a":`}).Draw(t, "piece")
				b = append(b[:at:at], append([]byte(piece), b[at:]...)...)
			default:
				to := rapid.IntRange(at, len(b)-1).Draw(t, "to")
				b = append(b[:at:at], append(append([]byte{}, b[at:to]...), b[at:]...)...)
			}
		}
		if head, err := parseWord(b); err == nil && head.Height < 0 {
			t.Fatalf("%s gave height %d", b, head.Height)
		}
		var status statusAnswer
		_ = json.Unmarshal(b, &status)
		var block blockAnswer
		_ = json.Unmarshal(b, &block)
		var results resultsAnswer
		if json.Unmarshal(b, &results) == nil {
			for i, tx := range results.Txs {
				readEvents(tx.Events, i)
			}
			readEvents(results.Events, -1)
		}
	})
}

package config

import (
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxSize bounds a file, in bytes. An EAM table of 10,000 entries fits.
const maxSize = 2 << 20

// maxNames bounds the keys of one table, the names of tables, and the parts of a
// dotted key. The time that go-toml takes grows with the square of each.
const maxNames = 1000

// tooManyNames returns the first name beyond maxNames. What the parser cannot read
// is left to the decoder, which says why.
func tooManyNames(data []byte) (at span, found bool) {
	var p unstable.Parser
	p.Reset(data)
	tables, keys := map[string]bool{}, 0
	for p.NextExpression() {
		e := p.Expression()
		it := e.Key()
		if !it.Next() {
			continue
		}
		at = spanOf(it.Node().Raw)
		var name strings.Builder
		for parts := 1; ; parts++ {
			if parts > maxNames {
				return at, true
			}
			name.WriteByte(0)
			name.Write(it.Node().Data)
			if !it.Next() {
				break
			}
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			keys = 0
			tables[name.String()] = true
		case unstable.KeyValue:
			keys++
			if mostNames(e.Value()) > maxNames {
				return at, true
			}
		}
		if len(tables) > maxNames || keys > maxNames {
			return at, true
		}
	}
	return span{}, false
}

// mostNames returns how many keys the largest inline table in a value has.
func mostNames(v *unstable.Node) int {
	most, n := 0, 0
	for it := v.Children(); it.Next(); {
		child := it.Node()
		if v.Kind == unstable.InlineTable {
			n++
			child = child.Value()
		}
		if child.Kind == unstable.Array || child.Kind == unstable.InlineTable {
			most = max(most, mostNames(child))
		}
	}
	return max(most, n)
}

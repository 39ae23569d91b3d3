package config

import (
	"github.com/pelletier/go-toml/v2/unstable"
)

// span is a range of bytes of the file.
type span struct{ off, len int }

// kind is what a node is, in the words of a message.
type kind string

const (
	stringKind  kind = "a string"
	integerKind kind = "an integer"
	boolKind    kind = "a boolean"
	floatKind   kind = "a floating-point number"
	timeKind    kind = "a date or time"
	listKind    kind = "a list"
	tableKind   kind = "a table"
)

// node is a value of the file with its place. go-toml's decoder tells where a
// value is that does not fit its field, but not where a value was that turned
// out wrong later, beside another key; so the checks work on this tree.
type node struct {
	kind   kind
	text   string // of a string: decoded; of other scalars: as written
	at     span   // of the value; of a table made by a header: of its name
	fields []field
	byName map[string]*node // the same as fields
	items  []*node
}

type field struct {
	name string
	at   span
	*node
}

// get returns the field of a table, nil if there is none.
func (n *node) get(name string) *node { return n.byName[name] }

// put adds a field to a table.
func (n *node) put(name string, at span, v *node) {
	if n.byName == nil {
		n.byName = map[string]*node{}
	}
	n.byName[name] = v
	n.fields = append(n.fields, field{name, at, v})
}

// parseTree reads a document that go-toml's decoder has accepted: duplicate
// keys and tables that contradict each other cannot occur any more.
func parseTree(data []byte) (*node, error) {
	b := builder{data: data}
	b.parser.Reset(data)
	root := &node{kind: tableKind}
	table := root
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = b.open(root, e)
		case unstable.KeyValue:
			b.keyValue(table, e)
		}
	}
	return root, b.parser.Error()
}

type builder struct {
	parser unstable.Parser
	data   []byte
}

// open finds or makes the table of a header, [a.b] or [[a.b]].
func (b *builder) open(root *node, e *unstable.Node) *node {
	t := root
	for it := e.Key(); it.Next(); {
		k := it.Node()
		name, at := string(k.Data), spanOf(k.Raw)
		if e.Kind == unstable.ArrayTable && it.IsLast() {
			list := t.get(name)
			if list == nil {
				list = &node{kind: listKind, at: at}
				t.put(name, at, list)
			}
			item := &node{kind: tableKind, at: at}
			list.items = append(list.items, item)
			return item
		}
		t = descend(t, name, at)
	}
	return t
}

// descend returns the table of that name in t, made if needed; of a list of
// tables the last one, as TOML has it.
func descend(t *node, name string, at span) *node {
	n := t.get(name)
	if n == nil {
		n = &node{kind: tableKind, at: at}
		t.put(name, at, n)
	}
	if n.kind == listKind && len(n.items) > 0 {
		return n.items[len(n.items)-1]
	}
	return n
}

// keyValue adds `a.b = value` to a table.
func (b *builder) keyValue(t *node, e *unstable.Node) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		name, at := string(k.Data), spanOf(k.Raw)
		if !it.IsLast() {
			t = descend(t, name, at)
			continue
		}
		t.put(name, at, b.value(e.Value(), b.afterEqualSign(at)))
	}
}

// value converts a value. The parser gives no range for a list, and only the
// brace of an inline table, so start says where it begins.
func (b *builder) value(v *unstable.Node, start int) *node {
	n := &node{at: spanOf(v.Raw), text: string(v.Data)}
	switch v.Kind {
	case unstable.String:
		n.kind = stringKind
	case unstable.Integer:
		n.kind = integerKind
	case unstable.Bool:
		n.kind = boolKind
	case unstable.Float:
		n.kind = floatKind
	case unstable.Array:
		n.kind, n.at = listKind, span{start, 1}
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, b.value(it.Node(), start))
		}
	case unstable.InlineTable:
		n.kind = tableKind
		for it := v.Children(); it.Next(); {
			b.keyValue(n, it.Node())
		}
	default:
		n.kind = timeKind
	}
	if n.at.len == 0 {
		n.at = span{start, max(1, len(n.text))}
	}
	return n
}

// afterEqualSign returns where the value of a key begins.
func (b *builder) afterEqualSign(key span) int {
	i := key.off + key.len
	for i < len(b.data) && (b.data[i] == ' ' || b.data[i] == '\t' || b.data[i] == '=') {
		i++
	}
	return i
}

func spanOf(r unstable.Range) span { return span{int(r.Offset), int(r.Length)} }

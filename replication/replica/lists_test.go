package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestQueueAgainstSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q ring[waiting]
		var model []int
		next := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.IntRange(0, 4).Draw(t, "push") > 1 {
				q.push(waiting{token: next})
				model = append(model, next)
				next++
			} else if len(model) > 0 {
				require.Equal(t, model[0], q.first().token)
				require.Equal(t, model[0], q.pop().token)
				model = model[1:]
			}
			require.Equal(t, len(model), q.n)
			if len(model) == 0 {
				require.Nil(t, q.first())
			}
		}
	})
}

func TestLargeQueueIsGivenBack(t *testing.T) {
	var q ring[waiting]
	for i := range 2*keptRing + 1 {
		q.push(waiting{token: i})
	}
	for q.n > 0 {
		q.pop()
	}
	require.Nil(t, q.items)
}

func TestWatchListAgainstSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list, ready watchList
		watches := make([]Watch, 8)
		in, out := map[*Watch]bool{}, map[*Watch]bool{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			w := &watches[rapid.IntRange(0, 7).Draw(t, "watch")]
			switch {
			case w.list == nil:
				w.beyond = rapid.Int64Range(0, 10).Draw(t, "beyond")
				list.add(w)
				in[w] = true
			case rapid.Bool().Draw(t, "remove"):
				w.list.remove(w)
				delete(in, w)
				delete(out, w)
			default:
				hw := rapid.Int64Range(0, 11).Draw(t, "hw")
				list.moveBelow(hw, &ready)
				for w := range in {
					if w.beyond < hw {
						delete(in, w)
						out[w] = true
					}
				}
			}
			require.Equal(t, in, collect(&list))
			require.Equal(t, out, collect(&ready))
		}
		ready.takeAll(&list)
		require.Nil(t, list.first)
		require.Len(t, collect(&ready), len(in)+len(out))
	})
}

func collect(l *watchList) map[*Watch]bool {
	found := map[*Watch]bool{}
	for w := l.first; w != nil; w = w.next {
		if w.list != l || w.next != nil && w.next.prev != w {
			panic("list broken")
		}
		found[w] = true
	}
	return found
}

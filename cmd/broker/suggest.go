package main

import (
	"sort"
	"strings"
)

// suggestions returns the candidates that a typed name may have meant, nearest
// first, at most three.
func suggestions(typed string, candidates []string) []string {
	type scored struct {
		name     string
		distance int
	}
	var near []scored
	lower := strings.ToLower(typed)
	for _, name := range candidates {
		d := editDistance(lower, strings.ToLower(name))
		if len(typed) >= 3 && strings.HasPrefix(strings.ToLower(name), lower) {
			d = min(d, 1)
		}
		if d <= max(1, len(typed)/3) {
			near = append(near, scored{name, d})
		}
	}
	sort.SliceStable(near, func(i, j int) bool { return near[i].distance < near[j].distance })
	var names []string
	for _, s := range near[:min(3, len(near))] {
		names = append(names, s.name)
	}
	return names
}

// didYouMean phrases suggestions as a sentence, or nothing where there are none.
func didYouMean(typed string, candidates []string) string {
	names := suggestions(typed, candidates)
	if len(names) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(names, ", or ") + "?"
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between two strings (optimal string alignment).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

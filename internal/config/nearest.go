package config

import "strings"

// nearest returns the word that s most probably was meant to be, or "".
func nearest(s string, words []string) string {
	const most = 32 // longer than any word of ours; also bounds the work
	if len(s) > most {
		return ""
	}
	s = strings.ReplaceAll(strings.ToLower(s), "_", "-")
	best, found := 1+max(1, len(s)/3), ""
	for _, w := range words {
		if d := distance(s, w); d < best {
			best, found = d, w
		}
	}
	return found
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

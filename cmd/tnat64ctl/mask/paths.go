package mask

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	// home is what a path has of its user, whose name may have spaces in it.
	home  = regexp.MustCompile(`^((?:/var)?/(?:home|Users|run/user)/)[^/]+`)
	homes = regexp.MustCompile(`/(home|Users|run/user)/[^/\s"':,;]+`)
	// paths has what stands before a path, and the path. It may have spaces in it
	// between quotes, in an error of Go, and in the status.
	paths = regexp.MustCompile(`(?m)["']/[^"'\n:;,()]*|\b(?:open|stat|lstat|read|write|mkdir|remove|rename|chmod|chown|unix|exec) /[^"'\n:]*: |^ *configuration +/.*|(?:^|[\s"'=(:,\[])/[\pL._@+~-][^\s"'(),;:]*`)
	// relative is a path that begins in the present directory or above.
	relative = regexp.MustCompile(`(^|[\s"'=(:,\[])(\.\.?/[^\s"'(),;:]+)`)
	// usualPath begins what many hosts have.
	usualPath = regexp.MustCompile(`^/(etc/(tnat64/[^/]*$|(resolv|gai|nsswitch|host)\.conf|hosts|os-release|systemd/|NetworkManager/conf\.d/|sysctl\.)|run/(tnat64|systemd/|dbus/|NetworkManager/|resolvconf/)|var/lib/tnat64|usr/((local/)?s?bin|lib(64|exec)?|share)/|lib/|bin/|sbin/|proc/|sys/|dev/)`)
	// pathRoot is the part of another path that stays.
	pathRoot = regexp.MustCompile(`^(/var)?/(home|Users)/<user>(/|$)|^/run/user/<user>(/|$)|^/(etc|run|var|srv|opt|root|mnt|media|tmp)/|^/`)
)

// path masks the directories of a path that a person has named, and the file
// unless many hosts have it.
func (m *Masker) path(s string) string {
	if usualPath.MatchString(s) {
		return s
	}
	root := pathRoot.FindString(s)
	rest := s[len(root):]
	file := ""
	if base := path.Base(rest); known.MatchString(base) {
		rest, file = strings.TrimSuffix(rest, base), base
	}
	if rest = strings.Trim(rest, "/"); rest == "" || rest == "<user>" {
		return s
	}
	hidden := fmt.Sprintf("<path #%d>", m.number(rest))
	if file != "" {
		hidden += "/"
	}
	return root + hidden + file
}

func (m *Masker) paths(s string) string {
	s = paths.ReplaceAllStringFunc(s, func(found string) string {
		at := strings.IndexByte(found, '/')
		p := strings.TrimRight(found[at:], ": ")
		return found[:at] + m.path(home.ReplaceAllString(p, "$1<user>")) + found[at+len(p):]
	})
	s = homes.ReplaceAllString(s, "/$1/<user>")
	return relative.ReplaceAllStringFunc(s, func(found string) string {
		at := strings.IndexByte(found, '.')
		return fmt.Sprintf("%s<path #%d>", found[:at], m.number(found[at:]))
	})
}

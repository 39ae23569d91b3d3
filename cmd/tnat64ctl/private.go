package main

import (
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Users between these ids are people: below are those of the system, above those
// that programs allocate, and nobody.
const (
	firstPerson = 1000
	lastPerson  = 59999
)

// resolverFiles may name the domains in which names are looked up.
var resolverFiles = []string{
	"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/resolv.conf",
}

// privateWords returns the names of this host, its domains and its users.
func privateWords() (words []string) {
	host, _ := os.Hostname() // an error leaves it empty
	words = append(words, hostNames(host)...)
	words = append(words, hostNames(readFile("/etc/hostname"))...)
	for _, variable := range []string{"USER", "LOGNAME", "SUDO_USER"} {
		words = append(words, os.Getenv(variable))
	}
	if u, err := user.Current(); err == nil {
		words = append(words, u.Username, u.Name)
	}
	words = append(words, people(readFile("/etc/passwd"))...)
	for _, name := range resolverFiles {
		words = append(words, searchDomains(readFile(name))...)
	}
	return words
}

// hostNames returns a host's name and its first label.
func hostNames(host string) []string {
	host = strings.TrimSpace(host)
	label, _, _ := strings.Cut(host, ".")
	return []string{host, label}
}

// minPart is how many letters a part of a person's name has, to be hidden where it
// stands alone: "Smith", but not "J.".
const minPart = 3

// people returns the names of the users in a file like /etc/passwd who are people:
// those of their accounts, and their own and its parts.
func people(passwd string) (names []string) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(line, ":")
		if len(f) < 5 {
			continue
		}
		if id, err := strconv.Atoi(f[2]); err != nil || id < firstPerson || id > lastPerson {
			continue
		}
		own, _, _ := strings.Cut(f[4], ",") // then come rooms and telephone numbers
		names = append(names, f[0], own)
		for _, part := range strings.Fields(own) {
			if utf8.RuneCountInString(part) >= minPart {
				names = append(names, part)
			}
		}
	}
	return names
}

// searchDomains returns the domains that a file like /etc/resolv.conf names.
func searchDomains(conf string) (domains []string) {
	for line := range strings.Lines(conf) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain") {
			domains = append(domains, f[1:]...)
		}
	}
	return domains
}

// linkNames returns the names of this host's interfaces.
func linkNames() (names []string) {
	links, _ := net.Interfaces() // an error leaves the list empty
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names
}

// readFile returns a file's text, or nothing if it cannot be read.
func readFile(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

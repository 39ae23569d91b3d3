// Package advertise sends router advertisements (RFC 4861) with the prefix of
// the link, the translation prefix (RFC 8781), resolvers (RFC 8106) and MTU.
//
// Message builds an advertisement, schedule says when one is due, disagreements
// compares those of other routers: pure functions and values. [Advertiser] runs
// them on a link.
package advertise

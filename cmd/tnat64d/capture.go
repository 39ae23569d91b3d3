package main

// followCaptures makes the kernel engine of a TUN pause while a program captures
// packets there, as that program would miss what the engine translates. It
// reports whether one pauses or may resume.
func (d *datapaths) followCaptures() (any bool) {
	for _, p := range d.all() {
		changed, captured, err := p.FollowCaptures()
		switch {
		case err != nil:
			d.log.Warn("cannot pause or resume the kernel engine", "tun", p.tun, "reason", err)
		case !changed:
		case captured:
			d.log.Info("a program captures packets; the kernel engine pauses", "tun", p.tun)
			any = true
		default:
			d.log.Info("no program captures packets; the kernel engine may resume", "tun", p.tun)
			any = true
		}
	}
	return any
}

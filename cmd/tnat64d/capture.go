package main

// followCaptures makes the kernel engine of a TUN pause while a program captures
// packets there, as that program would miss what the engine translates.
func (d *tnat64d) followCaptures() {
	for _, p := range d.path.all() {
		changed, captured, err := p.FollowCaptures()
		switch {
		case err != nil:
			d.log.Warn("cannot pause or resume the kernel engine", "tun", p.tun, "reason", err)
		case !changed:
		case captured:
			d.log.Info("a program captures packets; the kernel engine pauses", "tun", p.tun)
			d.changed()
		default:
			d.log.Info("no program captures packets; the kernel engine may resume", "tun", p.tun)
			d.changed()
		}
	}
}

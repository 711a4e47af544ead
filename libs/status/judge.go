package status

import "fmt"

const (
	// expiryDays is how many days before it expires a certificate is reported. lagTrouble is how many seconds behind a
	// watcher must be to be reported.
	expiryDays = 14
	lagTrouble = 60
)

// judge lists, in words, what an operator should look at.
func (o *Overview) judge() {
	o.Troubles = []string{}
	say := func(format string, args ...any) { o.Troubles = append(o.Troubles, fmt.Sprintf(format, args...)) }
	if !o.Process.HasLeader {
		say("The store cannot be reached: nothing can be read or written.")
	}
	for _, a := range o.Alarms {
		say("Alarm %s.", a.Type)
	}
	if o.Store.DiskFull {
		say("The disk is full: writes that grow the store are refused.")
	}
	for i := range o.Pods {
		switch p := &o.Pods[i]; {
		case p.Late:
			say("%s has not been heard of for %s.", p.Name, Age(p.SilentSeconds))
		case !p.Ready:
			say("%s is not ready: %s.", p.Name, p.Reason)
		}
	}
	for _, v := range o.Vacant {
		say("No pod has the place %s.", v)
	}
	if o.Watches.LagSeconds >= lagTrouble {
		say("A watcher is %s behind.", Seconds(o.Watches.LagSeconds))
	}
	for _, c := range o.Certificates {
		switch {
		case c.Days < 0:
			say("The %s of %s has expired.", c.Kind, c.Use)
		case c.Days < expiryDays:
			say("The %s of %s expires in %s days.", c.Kind, c.Use, Days(c.Days))
		}
	}
}

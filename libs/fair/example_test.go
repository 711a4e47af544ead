package fair_test

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/fair"
)

// Flows that wait have turns by weight. Whoever comes while a place is free goes in at once.
func ExampleGate() {
	gate := fair.NewGate(1, 100) // one turn at a time; 100 units for each visit of a flow of weight 1
	tenant := gate.Flow(1)
	may, err := tenant.Enter(context.Background(), 10, 5000)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tenant.Leave()
	fmt.Println("nobody else waits, so it may take", may)
	// Output: nobody else waits, so it may take 5000
}

package verifier

// For tests that need the machine, which imports this package.
var (
	Generate = generate
	Mutate   = mutate
	TestMaps = testMaps
	Setting  = setting
)

package sdk

// Integer is every integer of a stated width.
type Integer interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int8 | ~int16 | ~int32 | ~int64
}

// Add returns a + b. A sum that leaves the type ends the call with CodeOverflow, where the operator would wrap around.
func Add[T Integer](a, b T) T {
	sum := a + b
	if (sum < a) != (b < 0) {
		Abort(CodeOverflow, "add")
	}
	return sum
}

// Sub returns a - b, and ends the call as Add does.
func Sub[T Integer](a, b T) T {
	rest := a - b
	if (rest > a) != (b < 0) {
		Abort(CodeOverflow, "sub")
	}
	return rest
}

// Mul returns a * b, and ends the call as Add does.
func Mul[T Integer](a, b T) T {
	product := a * b
	if a != 0 && (product/a != b || a < 0 && b < 0 && product < 0) { // the least number by -1 is itself again
		Abort(CodeOverflow, "mul")
	}
	return product
}

// Fibonacci numbers by plain recursion.
typedef unsigned int u32;
__attribute__((noinline)) static u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

u32 run(u32 n) {
	u32 sum = 0;
	while (n--) sum += fib(16 + (sum & 1));
	return sum;
}

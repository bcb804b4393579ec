// Calls functions through a table, as a small interpreter does.
typedef unsigned int u32;
static u32 add(u32 a, u32 b) { return a + b; }
static u32 sub(u32 a, u32 b) { return a - b; }
static u32 mix(u32 a, u32 b) { return a ^ (b << 3 | b >> 29); }
static u32 mul(u32 a, u32 b) { return a * (b | 1); }
static u32 (*const table[])(u32, u32) = {add, sub, mix, mul};
static unsigned char program[1024];

u32 run(u32 n) {
	u32 x = 1, seed = 7;
	for (int i = 0; i < 1024; i++) program[i] = (seed = seed * 1664525 + 1013904223) >> 30;
	while (n--)
		for (int i = 0; i < 1024; i++) x = table[program[i]](x, i);
	return x;
}

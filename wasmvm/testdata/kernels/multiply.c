// Multiplies 256-bit numbers, over and over.
typedef unsigned int u32;
typedef unsigned long long u64;

u32 run(u32 n) {
	u32 a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8] = {0x9e3779b9, 11, 13, 17, 19, 23, 29, 0xdeadbeef}, r[16];
	while (n--) {
		for (int i = 0; i < 16; i++) r[i] = 0;
		for (int i = 0; i < 8; i++) {
			u64 carry = 0;
			for (int j = 0; j < 8; j++) {
				carry += (u64)a[i] * b[j] + r[i + j];
				r[i + j] = carry;
				carry >>= 32;
			}
			r[i + 8] = carry;
		}
		for (int i = 0; i < 8; i++) a[i] = r[i + 4] ^ r[i] | 1;
	}
	return a[0];
}

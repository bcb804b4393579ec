// FNV-1a of 4 KiB, over and over.
typedef unsigned int u32;
typedef unsigned long long u64;
static unsigned char data[4096];

u32 run(u32 n) {
	u64 h = 0xcbf29ce484222325;
	for (int i = 0; i < 4096; i++) data[i] = i * 31;
	while (n--)
		for (int i = 0; i < 4096; i++) h = (h ^ data[i]) * 0x100000001b3;
	return h ^ h >> 32;
}

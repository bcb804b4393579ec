// Quicksort of 4,096 numbers, over and over.
typedef unsigned int u32;
static u32 data[4096];

static void sort(u32 *a, int n) {
	while (n > 8) {
		u32 pivot = a[n / 2];
		int i = 0, j = n - 1;
		for (;; i++, j--) {
			while (a[i] < pivot) i++;
			while (a[j] > pivot) j--;
			if (i >= j) break;
			u32 t = a[i];
			a[i] = a[j];
			a[j] = t;
		}
		sort(a, i);
		a += i;
		n -= i;
	}
	for (int i = 1; i < n; i++) {
		u32 x = a[i];
		int j = i;
		for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
		a[j] = x;
	}
}

u32 run(u32 n) {
	u32 x = 1, sum = 0;
	while (n--) {
		for (int i = 0; i < 4096; i++) data[i] = x = x * 1664525 + 1013904223;
		sort(data, 4096);
		sum += data[100];
	}
	return sum;
}

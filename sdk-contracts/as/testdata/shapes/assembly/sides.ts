export enum Side {
  buy,
  sell,
}

export type Sides = Side[];

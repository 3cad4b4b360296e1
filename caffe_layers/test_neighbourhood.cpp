#include "gtest/gtest.h"
#include "neighbourhood.hpp"

namespace caffe {

TEST(PairGridTest, Window23Has72PairsInTheirOrder) {
  const PairGrid grid(1, 1, 23);
  const struct {
    int p, dy, dx;
  } expected[] = {{0, 1, -11}, {5, 1, -1}, {6, 1, 1}, {11, 1, 11}, {12, 3, -11},
      {71, 11, 11}};
  for (const auto& pair : expected) {
    EXPECT_EQ(pair.dy, grid.OffsetOf(pair.p).dy);
    EXPECT_EQ(pair.dx, grid.OffsetOf(pair.p).dx);
  }
  EXPECT_EQ(72, grid.pairs());
  EXPECT_EQ(8, NumPairs(7));
  EXPECT_EQ(2, NumPairs(5));  // 5 / 2 = 2: the odd number 1 only
}

// A 2 x 3 grid, window 3: s(0, 1) of channel 0, dx = -1, is the fourth entry of
// the second image's 12, and joins (0, 1) and (1, 0).
TEST(PairGridTest, APairIsFoundFromBothEndsAndFromItsEntry) {
  const PairGrid grid(2, 3, 3);
  EXPECT_EQ(1, grid.EntryOf(0, 1, 1, -1));
  EXPECT_EQ(1, grid.EntryOf(1, 0, -1, 1));
  EXPECT_EQ(6, grid.EntryOf(0, 0, 1, 1));
  EXPECT_EQ(6, grid.EntryOf(1, 1, -1, -1));
  const PixelPair pair = grid.PairOf(12 + 7);
  EXPECT_EQ(1, pair.n);
  EXPECT_EQ(1, pair.p);
  EXPECT_EQ(0, pair.y);
  EXPECT_EQ(1, pair.x);
  EXPECT_EQ(1, pair.lower_y);
  EXPECT_EQ(2, pair.lower_x);
}

TEST(PairGridTest, EveryEntryLeadsToItsPairAndBack) {
  const PairGrid grid(4, 5, 7);
  const int count = grid.pairs() * 4 * 5;
  for (int entry = 0; entry < count; ++entry) {
    const PixelPair pair = grid.PairOf(count + entry);
    const int dy = pair.lower_y - pair.y, dx = pair.lower_x - pair.x;
    EXPECT_EQ(1, pair.n);
    EXPECT_EQ(entry, grid.EntryOf(pair.y, pair.x, dy, dx));
    EXPECT_EQ(entry, grid.EntryOf(pair.lower_y, pair.lower_x, -dy, -dx));
    EXPECT_EQ(pair.x >= grid.BeginColumn(dx) && pair.x < grid.EndColumn(dx),
        grid.Contains(0, pair.lower_x));
  }
}

TEST(PairGridTest, TheLargestWindowIsAllowedAndTheNextIsNot) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  CheckWindow("s", "similarity_param", 1023);
  EXPECT_EQ(131072, NumPairs(1023));
  EXPECT_DEATH(CheckWindow("s", "similarity_param", 1025),
      "Layer s: window is 1025, expected an odd number from 3 to 1023. Set "
      "similarity_param . window: 23 . for the paper's neighbourhood");
}

}  // namespace caffe
